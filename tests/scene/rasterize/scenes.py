"""Small scenes and cameras that the rasterizer's tests share."""

import math

import torch
from torch import Tensor

from esd_splat.scene.cameras import Cameras, Orbit, look_at_origin
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import rasterize

F64 = torch.float64


def camera(
    size: int = 9, focal: float = 20.0, eye: tuple[float, float, float] = (0, 0, 2)
) -> Cameras:
    """One float64 camera at ``eye``, looking at the origin."""
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=F64)
    return Cameras(look_at_origin(torch.tensor([eye], dtype=F64)), K[None], size, size)


def background(cameras: Cameras, rgb: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Tensor:
    return torch.tensor([rgb] * len(cameras), dtype=cameras.Ks.dtype)


def splat(
    mean: tuple[float, float, float], opacity: float, gray: float, scale: float = 0.1
) -> Gaussians:
    """One isotropic float64 Gaussian, the same grey from everywhere."""
    return Gaussians(
        means=torch.tensor([mean], dtype=F64),
        quats=torch.tensor([[1.0, 0, 0, 0]], dtype=F64),
        log_scales=torch.full((1, 3), math.log(scale), dtype=F64),
        opacity_logits=torch.logit(torch.tensor([opacity], dtype=F64)),
        sh0=torch.full((1, 1, 3), (gray - 0.5) / 0.28209479177387814, dtype=F64),
        shN=torch.zeros(1, 0, 3, dtype=F64),
    )


def both(*scenes: Gaussians) -> Gaussians:
    """All Gaussians of ``scenes``, in order."""
    values = zip(*(vars(scene).values() for scene in scenes), strict=True)
    return Gaussians(*(torch.cat(parts) for parts in values))


def random_scene(
    n: int, seed: int = 0, k: int = 3, spread: float = 0.1, scale: float = 0.13
) -> Gaussians:
    """``n`` float64 Gaussians of mixed shape, opacity and colour around the origin."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=F64, generator=g)

    return Gaussians(
        means=spread * randn(n, 3),
        quats=randn(n, 4),
        log_scales=math.log(scale) + 0.4 * randn(n, 3),
        opacity_logits=randn(n),
        sh0=randn(n, 1, 3),
        shN=0.3 * randn(n, k, 3),
    )


def wide_views(
    width: int, height: int, count: int, seed: int, dtype: torch.dtype = torch.float32
) -> Cameras:
    """Wide views from close by: many Gaussians are behind the camera or beside the image."""
    orbit = Orbit(distance=(1.2, 3.0), fov=(30.0, 110.0))
    cameras = orbit.sample(count, torch.Generator().manual_seed(seed))
    Ks = cameras.Ks.to(dtype) / 64 * max(width, height)
    Ks[:, 0, 2], Ks[:, 1, 2], Ks[:, 2, 2] = 0.4 * width, 0.6 * height, 1
    return Cameras(cameras.viewmats.to(dtype), Ks, width, height)


def drawn(scene: Gaussians, cameras: Cameras, backend: str) -> dict[str, Tensor]:
    """Render images, and return them with the gradients of a random loss."""
    generator = torch.Generator().manual_seed(7)
    dtype, device = scene.means.dtype, scene.means.device

    def rand(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype, generator=generator).to(device)

    leaf = scene.map(lambda v: v.detach().clone().requires_grad_())
    rgb = rand(len(cameras), 3).sigmoid().requires_grad_()
    render = rasterize(leaf, cameras, rgb, backend)
    render.means2d.retain_grad()
    loss = (render.images * rand(*render.images.shape)).sum()
    (loss + (render.alphas * rand(*render.alphas.shape)).sum()).backward()
    out = {"images": render.images, "alphas": render.alphas, "visible": render.visible.to(dtype)}
    leaves = vars(leaf) | {"background": rgb, "means2d": render.means2d}
    return out | {
        f"d {name}": value.grad for name, value in leaves.items() if value.grad is not None
    }
