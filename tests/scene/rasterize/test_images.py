"""Properties and hand-computed values of images, for every backend that runs on this machine."""

import math

import pytest
import torch
from torch import Tensor

from esd_splat.scene import kernels
from esd_splat.scene.cameras import Cameras, Orbit
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import rasterize
from esd_splat.scene.rasterize.base import BLUR_PX2, MAX_ALPHA, MIN_ALPHA
from esd_splat.scene.rasterize.reference import camera_axes, pinhole, screen_axes, spread
from tests.scene.rasterize.scenes import F64, background, both, camera, random_scene, splat


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "cpu" and kernels.MISSING:
        pytest.skip(kernels.MISSING)
    return request.param


def _image(scene: Gaussians, cameras: Cameras, backend: str) -> Tensor:
    return rasterize(scene, cameras, background(cameras), backend).images


def test_one_splat_on_the_axis_by_hand(backend: str) -> None:
    """At the centre pixel the footprint is exp(0): the colour is opacity times grey."""
    image = _image(splat((0, 0, 0), opacity=0.5, gray=0.5), camera(), backend)[0, 0]
    variance = (20 * 0.1 / 2) ** 2 + BLUR_PX2
    torch.testing.assert_close(image[4, 4].item(), 0.5 * 0.5)
    torch.testing.assert_close(image[4, 5].item(), 0.25 * math.exp(-0.5 / variance))


def test_right_in_the_world_is_right_in_the_front_picture_and_up_is_up(backend: str) -> None:
    """Seen from +z: a splat at +x lies right of the middle, one at +y above it."""
    cameras = camera(size=33)
    right = _image(splat((0.5, 0, 0), 0.9, 1.0), cameras, backend)[0, 0]
    up = _image(splat((0, 0.5, 0), 0.9, 1.0), cameras, backend)[0, 0]
    assert divmod(int(right.argmax()), 33) == (16, 21)
    assert divmod(int(up.argmax()), 33) == (11, 16)


def test_the_nearer_splat_hides_the_farther(backend: str) -> None:
    """Seen from z = 2, white at z = 0.5 is in front of black at z = -0.5, both half opaque."""
    black, white = splat((0, 0, -0.5), 0.5, 0.0), splat((0, 0, 0.5), 0.5, 1.0)
    for scene in (both(black, white), both(white, black)):
        torch.testing.assert_close(_image(scene, camera(), backend)[0, 0, 4, 4].item(), 0.5)


def test_equal_depths_are_drawn_in_the_order_of_their_rows(backend: str) -> None:
    black, white = splat((0, 0, 0), 0.5, 0.0), splat((0, 0, 0), 0.5, 1.0)
    torch.testing.assert_close(
        _image(both(black, white), camera(), backend)[0, 0, 4, 4].item(), 0.25
    )
    torch.testing.assert_close(
        _image(both(white, black), camera(), backend)[0, 0, 4, 4].item(), 0.5
    )


def test_projection_linearizes_the_pinhole_map() -> None:
    """cov2d = J W S W^T J^T, where autograd computes the Jacobian J of the pinhole projection."""
    cameras, scene = camera(eye=(1.0, 0.5, 1.5)), random_scene(4, seed=3)
    V, K = cameras.viewmats[0], cameras.Ks[0]

    def project(mean: Tensor) -> Tensor:
        uvw = K @ (V[:3, :3] @ mean + V[:3, 3])
        return uvw[:2] / uvw[2]

    J = torch.func.vmap(torch.func.jacrev(project))(scene.means)
    expected = J @ scene.covariances @ J.mT + BLUR_PX2 * torch.eye(2, dtype=F64)

    xyz = (scene.means @ V[:3, :3].T + V[:3, 3])[None]
    torch.testing.assert_close(pinhole(xyz, cameras.Ks)[0], torch.func.vmap(project)(scene.means))
    halves = camera_axes(scene.covariance_factors, V[None, :3, :3])
    rows, drawn = screen_axes(xyz, halves, cameras, torch.ones(1, 4, dtype=torch.bool))
    (xx, xy, yy), conics = spread(rows)[0][0].unbind(-1), spread(rows)[1][0]
    assert drawn.all()
    torch.testing.assert_close(torch.stack([xx, xy, xy, yy], -1).view(-1, 2, 2), expected)
    inverse = torch.linalg.inv(expected)
    torch.testing.assert_close(conics, inverse.flatten(1)[:, [0, 1, 3]])


def test_needles_keep_a_positive_determinant_in_float32() -> None:
    """For 1000 by 0.001 units seen from the side, the usual xx yy - xy^2 is all rounding error."""
    needle = torch.tensor([7.0, -7, -7], dtype=F64).expand(200, 3)
    scene = Gaussians(**{**vars(random_scene(200, seed=5)), "log_scales": needle})
    cameras = camera()

    def conics(dtype: torch.dtype) -> Tensor:
        views = Cameras(cameras.viewmats.to(dtype), cameras.Ks.to(dtype), 9, 9)
        R, t = views.viewmats[:, :3, :3], views.viewmats[:, :3, 3]
        halves = camera_axes(scene.covariance_factors.to(dtype), R)
        xyz = scene.means.to(dtype) @ R.mT + t[:, None]
        return spread(screen_axes(xyz, halves, views, torch.ones(1, 200, dtype=torch.bool))[0])[1]

    assert (conics(torch.float32)[..., ::2] > 0).all()
    torch.testing.assert_close(conics(torch.float32).double(), conics(F64), rtol=1e-3, atol=1e-5)


def test_order_of_storage_does_not_matter(backend: str) -> None:
    scene, order = random_scene(12), torch.randperm(12)
    shuffled = scene.map(lambda value: value[order])
    torch.testing.assert_close(
        _image(scene, camera(), backend), _image(shuffled, camera(), backend)
    )


def test_scaling_quaternions_changes_nothing(backend: str) -> None:
    scene = random_scene(5)
    doubled = Gaussians(**{**vars(scene), "quats": -2 * scene.quats})
    torch.testing.assert_close(_image(scene, camera(), backend), _image(doubled, camera(), backend))


def test_every_view_has_its_own_background(backend: str) -> None:
    """An empty scene and a splat behind the camera show the background, with alpha 0."""
    cameras = Orbit(size=8).turntable(2)
    colors = torch.tensor([[1.0, 0, 0], [0, 0.5, 1.0]])
    nothing = random_scene(0).map(Tensor.float)
    behind = splat((0.0, 3.5, 9.0), 0.9, 1.0).map(Tensor.float)
    for scene, views in ((nothing, [0, 1]), (behind, [0])):
        render = rasterize(scene, cameras, colors, backend)
        torch.testing.assert_close(
            render.images[views], colors[views, :, None, None].expand(-1, 3, 8, 8)
        )
        assert not render.alphas[views].any()
        assert not render.visible[views].any()


def test_colours_are_those_of_each_view(backend: str) -> None:
    """A splat of degree 1, brighter towards +z, is white from the front, black from the back."""
    one = splat((0, 0, 0), 0.9, 0.5)
    # d points from the eye to the mean, which is -z for the front view, and Y_2 = +0.4886 z.
    shN = torch.zeros(1, 3, 3, dtype=F64)
    shN[:, 1] = -0.5 / 0.4886025119029199
    one = Gaussians(**{**vars(one), "shN": shN})
    front, back = _image(one, camera(), backend), _image(one, camera(eye=(0, 0, -2)), backend)
    torch.testing.assert_close(front[0, :, 4, 4], torch.full((3,), 0.9, dtype=F64))
    assert back.max() < 1e-12


def test_screen_space_gradients_are_available_to_densification(backend: str) -> None:
    scene = random_scene(4).map(Tensor.requires_grad_)
    render = rasterize(scene, camera(), background(camera()), backend)
    render.means2d.retain_grad()
    render.images.square().sum().backward()
    grad = render.means2d.grad
    assert grad is not None
    assert grad.shape == (1, 4, 2)
    assert (grad[render.visible] != 0).any(dim=-1).all()


def test_screen_space_gradient_is_how_the_loss_changes_as_the_picture_shifts(backend: str) -> None:
    """The principal point moves all means, so its derivative is the sum over the Gaussians."""
    scene, cameras = random_scene(6), camera(size=17)
    weight = torch.randn(1, 3, 17, 17, dtype=F64, generator=torch.Generator().manual_seed(0))

    def loss(shift: float) -> Tensor:
        Ks = cameras.Ks.clone()
        Ks[:, 0, 2] += shift
        return (_image(scene, Cameras(cameras.viewmats, Ks, 17, 17), backend) * weight).sum()

    leaf = scene.map(lambda v: v.clone().requires_grad_())
    render = rasterize(leaf, cameras, background(cameras), backend)
    (grad,) = torch.autograd.grad((render.images * weight).sum(), render.means2d)
    numeric = (loss(1e-6) - loss(-1e-6)) / 2e-6
    torch.testing.assert_close(grad[..., 0].sum(), numeric, rtol=1e-5, atol=1e-7)


def test_gradcheck(backend: str) -> None:
    """In float64 for all parameters and the background, two views and view-dependent colours."""
    scene, cameras = random_scene(2, seed=1), camera(3)
    viewmats = torch.cat([cameras.viewmats, camera(eye=(1.0, 1, 1.5)).viewmats])
    two = Cameras(viewmats, cameras.Ks.expand(2, 3, 3), 3, 3)
    names = list(vars(scene))
    inputs = [v.clone().requires_grad_() for v in vars(scene).values()]
    bg = torch.rand(2, 3, dtype=F64, requires_grad=True)

    def render(bg: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        drawn = rasterize(Gaussians(**dict(zip(names, values, strict=True))), two, bg, backend)
        return drawn.images, drawn.alphas

    assert torch.autograd.gradcheck(render, (bg, *inputs), eps=1e-6, atol=1e-6)


def test_opacity_is_capped_and_faint_splats_are_dropped(backend: str) -> None:
    solid = _image(splat((0, 0, 0), 0.9999, 1.0), camera(), backend)
    torch.testing.assert_close(solid[0, 0, 4, 4].item(), MAX_ALPHA)
    scene = splat((0, 0, 0), 0.9 * MIN_ALPHA, 1.0)
    faint = rasterize(scene, camera(), background(camera()), backend)
    assert (faint.images == 0).all()
    assert not faint.visible.any()


def test_visible_means_that_a_pixel_changes_give_or_take_one_pixel(backend: str) -> None:
    cameras = camera(size=32)
    for x in torch.linspace(0.5, 2.5, 41).tolist():
        render = rasterize(splat((x, 0, 0), 0.5, 1.0), cameras, background(cameras), backend)
        drawn = bool(render.alphas.any())
        assert bool(render.visible) or not drawn
        # Half a pixel to the nearest pixel centre, and up to one for rounding up, 0.1 units each.
        if render.visible.any() and not drawn:
            closer = splat((x - 0.16, 0, 0), 0.5, 1.0)
            assert rasterize(closer, cameras, background(cameras), backend).alphas.any()


def test_broken_gaussians_are_not_drawn_and_poison_nothing(backend: str) -> None:
    """NaN or infinity in any field, overflow, zero quaternions, behind or at the camera."""
    good = random_scene(3)
    bad = []
    for name in vars(good):
        for value in (math.nan, math.inf, -math.inf):
            row = {key: v[:1].clone() for key, v in vars(good).items()}
            row[name].view(-1)[0] = value
            bad.append(Gaussians(**row))
    row = {key: v[:1].clone() for key, v in vars(good).items()}
    bad += [
        Gaussians(**{**row, "log_scales": torch.full((1, 3), 300.0, dtype=F64)}),
        Gaussians(**{**row, "log_scales": torch.full((1, 3), 500.0, dtype=F64)}),
        Gaussians(**{**row, "quats": torch.zeros(1, 4, dtype=F64)}),
        Gaussians(**{**row, "means": torch.tensor([[0, 0, 2.0]], dtype=F64)}),
        Gaussians(**{**row, "means": torch.tensor([[0, 0, 3.0]], dtype=F64)}),
    ]
    scene = both(*bad[:7], good, *bad[7:]).map(lambda v: v.clone().requires_grad_())
    render = rasterize(scene, camera(), background(camera()), backend)
    torch.testing.assert_close(render.images, _image(good, camera(), backend))
    render.images.square().sum().backward()
    for value in vars(scene).values():
        assert value.grad is not None
        assert value.grad.isfinite().all()
        assert not value.grad[:7].any()
        assert not value.grad[10:].any()
    assert render.visible.sum() == 3
    assert render.means2d.isfinite().all()


def test_huge_scales_in_float32_poison_nothing(backend: str) -> None:
    good = random_scene(3).map(Tensor.float)
    for log_scale in (10.0, 20.0, 30.0, 40.0, 43.5, 60.0, 100.0):
        huge = Gaussians(**{**vars(good), "log_scales": torch.full((3, 3), log_scale)})
        scene = both(good, huge).map(lambda v: v.clone().requires_grad_())
        cameras = Orbit(size=16).turntable(1)
        render = rasterize(scene, cameras, torch.zeros(1, 3), backend)
        render.images.square().sum().backward()
        assert render.images.isfinite().all()
        assert all(v.grad is not None and v.grad.isfinite().all() for v in vars(scene).values())
