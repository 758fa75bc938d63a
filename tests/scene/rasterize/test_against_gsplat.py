"""The PyTorch functions of gsplat, which run without a GPU, project to the same ellipses."""

import pytest
import torch
from torch import Tensor

from esd_splat.scene.cameras import Cameras, Orbit
from esd_splat.scene.gaussians import Gaussians, quats_to_rotmats
from esd_splat.scene.rasterize import rasterize
from esd_splat.scene.rasterize.base import BLUR_PX2
from esd_splat.scene.rasterize.gsplat import overflow
from esd_splat.scene.rasterize.reference import camera_axes, pinhole, screen_axes, spread
from tests.scene.rasterize.scenes import F64, random_scene

impl = pytest.importorskip("gsplat.cuda._torch_impl")


def _views(dtype: torch.dtype = F64) -> Cameras:
    """Two wide, off-centre views of 40 x 24 pixels. The scene exceeds them on all sides."""
    cameras = Orbit(fov=(70.0, 70.0)).sample(2, torch.Generator().manual_seed(0))
    K = torch.tensor([[20.0, 0, 17], [0, 22, 13], [0, 0, 1]], dtype=dtype)
    return Cameras(cameras.viewmats.to(dtype), K.expand(2, 3, 3), 40, 24)


def test_covariances_agree() -> None:
    scene = random_scene(50)
    expected, _ = impl._quat_scale_to_covar_preci(
        scene.quats, scene.log_scales.exp(), compute_preci=False
    )
    torch.testing.assert_close(scene.covariances, expected)
    torch.testing.assert_close(quats_to_rotmats(scene.quats), impl._quat_to_rotmat(scene.quats))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colours_agree(degree: int) -> None:
    scene = random_scene(50, k=(degree + 1) ** 2 - 1)
    eyes = _views().eyes
    coefficients = torch.cat([scene.sh0, scene.shN], dim=1).expand(2, -1, -1, -1)
    expected = impl._spherical_harmonics(degree, scene.means - eyes[:, None], coefficients)
    torch.testing.assert_close(scene.colors(eyes), (expected + 0.5).clamp(min=0))


def test_projections_agree_also_outside_the_frustum() -> None:
    """The scene is 20 times as wide as the images, so the Jacobian's position is clamped."""
    scene, cameras = random_scene(400, spread=1.5), _views()
    R = cameras.viewmats[:, :3, :3]
    xyz = scene.means @ R.mT + cameras.viewmats[:, None, :3, 3]
    front = xyz[..., 2] > 0.01
    _, means2d, depths, conics, _ = impl._fully_fused_projection(
        scene.means, scene.covariances, cameras.viewmats, cameras.Ks, 40, 24, eps2d=BLUR_PX2
    )
    rows, drawn = screen_axes(xyz, camera_axes(scene.covariance_factors, R), cameras, front)
    outside = (means2d[front] - means2d.new_tensor([20, 12])).abs() > means2d.new_tensor([40, 24])
    assert outside.any(dim=0).all(), "else this scene does not test the clamping"
    torch.testing.assert_close(pinhole(xyz, cameras.Ks)[front], means2d[front])
    torch.testing.assert_close(xyz[..., 2], depths)
    torch.testing.assert_close(spread(rows)[1][front], conics[front], rtol=1e-8, atol=1e-10)
    assert (drawn == front).all()


def test_visibility_agrees() -> None:
    """All Gaussians are opaque, as gsplat's PyTorch code assumes an opacity of 1."""
    scene, cameras = random_scene(400, spread=1.5, scale=0.05), _views()
    scene = Gaussians(**{**vars(scene), "opacity_logits": torch.full((400,), 30.0, dtype=F64)})
    radii, *_ = impl._fully_fused_projection(
        scene.means, scene.covariances, cameras.viewmats, cameras.Ks, 40, 24
    )
    render = rasterize(scene, cameras, torch.zeros(2, 3, dtype=F64), "reference")
    assert 100 < render.visible.sum() < 700
    assert (render.visible == (radii > 0).all(dim=-1)).all()


def test_rows_that_would_poison_gsplat_are_left_out() -> None:
    """Their determinants, in gsplat's own arithmetic, are NaN or infinite in single precision."""
    scene = random_scene(300, spread=0.4)
    generator = torch.Generator().manual_seed(0)
    log_scales = torch.rand(300, 3, generator=generator) * 46 - 3  # up to the largest drawable
    scene = Gaussians(**{**vars(scene), "log_scales": log_scales}).map(Tensor.float)
    cameras = _views(torch.float32)
    left_out = overflow(scene, cameras)
    R, t = cameras.viewmats[:, :3, :3], cameras.viewmats[:, :3, 3]
    covs = R[:, None] @ scene.covariances @ R[:, None].mT
    covs2d = impl._persp_proj(scene.means @ R.mT + t[:, None], covs, cameras.Ks, 40, 24)[1]
    a, b, c, d = (covs2d + BLUR_PX2 * torch.eye(2)).flatten(2).unbind(-1)
    whole = (a * d - b * c).isfinite().all(dim=0)
    assert (~whole).sum() > 50, "else this scene does not test it"
    assert whole[~left_out].all()
    assert not left_out[scene.log_scales.amax(1) < 8].any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("k", [0, 15])
def test_pictures_and_gradients_agree_on_a_gpu(k: int) -> None:
    """They agree within 1e-4 per channel, except for rare flips at the cut of at most 1/255."""
    scene = random_scene(500, k=k, spread=0.4, scale=0.06).map(lambda v: v.float().cuda())
    cameras = Orbit(size=72).sample(3, torch.Generator().manual_seed(1)).to("cuda")
    background = torch.rand(3, 3, generator=torch.Generator().manual_seed(2)).cuda()
    weight = torch.randn(3, 3, 72, 72, generator=torch.Generator().manual_seed(3)).cuda()
    renders, surfaces, grads = [], [], []
    for backend in ("reference", "gsplat"):
        leaf = scene.map(lambda v: v.clone().requires_grad_())
        render = rasterize(leaf, cameras, background, backend)
        surface = rasterize(scene, cameras, background, backend, surface=True).surface
        assert surface is not None
        surfaces.append(vars(surface))
        render.means2d.retain_grad()
        (render.images * weight).sum().backward()
        assert render.means2d.grad is not None
        renders.append(render)
        # A scene of degree 0 has no shN, and the reference then leaves its gradient at None.
        leaves = [v for v in vars(leaf).values() if v.numel()]
        grads.append([v.grad for v in leaves] + [render.means2d.grad])
    ours, theirs = renders
    difference = (ours.images - theirs.images).abs()
    assert (difference > 1e-4).float().mean() < 1e-3
    assert difference.max() < 1.5 / 255
    for name, value in surfaces[0].items():
        assert ((value - surfaces[1][name]).abs() > 1e-4).float().mean() < 1e-3, name
    seen = ours.visible & theirs.visible
    torch.testing.assert_close(ours.means2d[seen], theirs.means2d[seen], rtol=1e-4, atol=1e-3)
    assert (ours.visible != theirs.visible).float().mean() < 1e-2
    for a, b in zip(*grads, strict=True):
        assert a is not None
        assert b is not None
        assert (a - b).norm() <= 0.01 * a.norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_broken_gaussians_poison_nothing_on_a_gpu() -> None:
    scene = random_scene(8).map(lambda v: v.float().cuda())
    means = scene.means.clone()
    means[3] = torch.nan
    scene = Gaussians(**{**vars(scene), "means": means}).map(lambda v: v.clone().requires_grad_())
    cameras = Orbit(size=32).turntable(2).to("cuda")
    render = rasterize(scene, cameras, torch.zeros(2, 3, device="cuda"), "gsplat")
    render.images.sum().backward()
    assert render.images.isfinite().all()
    assert not render.visible[:, 3].any()
    grads: list[Tensor | None] = [v.grad for v in vars(scene).values()]
    assert all(g is not None and g.isfinite().all() for g in grads)
