"""Exact images of figurines: ray-traced ellipsoids, Lambert shading, and a plain background."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from esd_splat.figurines.shapes import COLOURS, parts
from esd_splat.types import Images

LIGHT = (0.20, 0.90, 0.30)
"""Direction to the light, fixed in the world so that shading does not depend on the camera."""
AMBIENT = 0.6
"""Ambient share of the shading. The rest is proportional to the cosine to the light."""


def trace(
    kind: str,
    colour: str,
    viewmats: Float[Tensor, "b 4 4"],
    Ks: Float[Tensor, "b 3 3"],
    size: int,
    background: Float[Tensor, "b 3"],
    supersample: int = 2,
) -> Images:
    """Render a figurine from each camera.

    Args:
        kind: one of ``KINDS``.
        colour: one of ``COLOURS``.
        viewmats: world-to-camera matrices, with OpenCV axes.
        Ks: intrinsics in pixels of the resulting images.
        size: width and height of the resulting images in pixels.
        background: RGB in [0, 1] for each camera, where no ray hits the figurine.
        supersample: number of rays along each side of a pixel. Their mean is the pixel.

    Raises:
        KeyError: the kind or colour does not exist.
    """
    hit, normals, nearest = _hits(kind, viewmats, Ks, size, supersample)
    like = {"dtype": viewmats.dtype, "device": viewmats.device}
    paints = torch.tensor([paint for _, paint in parts(kind, colour)], **like)
    light = torch.nn.functional.normalize(torch.tensor(LIGHT, **like), dim=0)
    shade = AMBIENT + (1 - AMBIENT) * (normals @ light).clamp(min=0)
    return _pixels(
        torch.where(hit, paints[nearest] * shade[..., None], background[:, None]), supersample
    )


def trace_normals(
    kind: str,
    viewmats: Float[Tensor, "b 4 4"],
    Ks: Float[Tensor, "b 3 3"],
    size: int,
    supersample: int = 2,
) -> tuple[Float[Tensor, "b 3 size size"], Float[Tensor, "b size size"]]:
    """Return the surface of a figurine, which has no paint.

    Args:
        kind: one of ``KINDS``.
        viewmats: world-to-camera matrices, with OpenCV axes.
        Ks: intrinsics in pixels of the resulting images.
        size: width and height of the resulting images in pixels.
        supersample: number of rays along each side of a pixel. Their mean is the pixel.

    Returns:
        The unit normals in world space, zero where no ray hits the figurine, and the share of each
        pixel that the figurine covers.

    Raises:
        KeyError: the kind does not exist.
    """
    hit, normals, _ = _hits(kind, viewmats, Ks, size, supersample)
    mean = _pixels(torch.where(hit, normals, 0.0), supersample)
    return torch.nn.functional.normalize(mean, dim=1), _pixels(hit.to(mean), supersample)[:, 0]


def _hits(
    kind: str, viewmats: Tensor, Ks: Tensor, size: int, supersample: int
) -> tuple[Bool[Tensor, "b p 1"], Float[Tensor, "b p 3"], Int[Tensor, "b p"]]:
    """Return which rays hit the figurine, the normals there, and the index of the part hit."""
    like = {"dtype": viewmats.dtype, "device": viewmats.device}
    figure = parts(kind, next(iter(COLOURS)))
    centres = torch.tensor([part.centre for part, _ in figure], **like)
    radii = torch.tensor([part.radii for part, _ in figure], **like)

    eyes, rays = _rays(viewmats, Ks, size, supersample)
    # |(eye + t ray - centre) / radii|^2 = 1, a quadratic in t for every ray and part.
    offset = (eyes[:, None] - centres) / radii
    a = rays.square() @ (1 / radii.square()).mT
    b = rays @ (offset / radii).mT
    c = offset.square().sum(-1)[:, None] - 1
    discriminant = b * b - a * c
    t = torch.where(discriminant > 0, (-b - discriminant.clamp(min=0).sqrt()) / a, torch.inf)
    t, nearest = torch.where(t > 0, t, torch.inf).min(-1)

    hit = t.isfinite()[..., None]
    points = eyes[:, None] + torch.where(hit, t[..., None], 0.0) * rays
    normals = (points - centres[nearest]) / radii[nearest].square()
    return hit, torch.nn.functional.normalize(normals, dim=-1), nearest


def _pixels(seen: Float[Tensor, "b p c"], supersample: int) -> Float[Tensor, "b c size size"]:
    """Return the mean over the rays of each pixel."""
    fine = math.isqrt(seen.shape[1])
    return torch.nn.functional.avg_pool2d(seen.mT.unflatten(-1, (fine, fine)), supersample)


def _rays(
    viewmats: Float[Tensor, "b 4 4"], Ks: Float[Tensor, "b 3 3"], size: int, supersample: int
) -> tuple[Float[Tensor, "b 3"], Float[Tensor, "b p 3"]]:
    """Return the position of each camera and the unnormalized ray through each sub-pixel."""
    steps = torch.arange(size * supersample, dtype=viewmats.dtype, device=viewmats.device)
    rows, cols = torch.meshgrid(*2 * [(steps + 0.5) / supersample], indexing="ij")
    pixels = torch.stack([cols, rows, torch.ones_like(rows)], dim=-1).view(-1, 3)
    R, t = viewmats[:, :3, :3], viewmats[:, :3, 3:]
    return -(R.mT @ t).squeeze(-1), pixels @ torch.linalg.inv(Ks).mT @ R
