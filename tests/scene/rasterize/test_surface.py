"""Depths and normals: closed forms, and the fast backends against the reference."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from esd_splat.scene import kernels
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians, quats_to_rotmats
from esd_splat.scene.rasterize import Surface, rasterize
from tests.scene.rasterize import gsplat_in_torch
from tests.scene.rasterize.scenes import (
    F64,
    background,
    both,
    camera,
    random_scene,
    splat,
    wide_views,
)

needs_kernels = pytest.mark.skipif(bool(kernels.MISSING), reason=kernels.MISSING or "-")


@pytest.fixture(params=["reference", pytest.param("cpu", marks=needs_kernels), "gsplat"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "gsplat":
        gsplat_in_torch.install(monkeypatch)
    return request.param


def _surface(scene: Gaussians, cameras: Cameras, backend: str) -> Surface:
    """Render in single precision over white, which must not be seen in a surface."""
    views = Cameras(cameras.viewmats.float(), cameras.Ks.float(), cameras.width, cameras.height)
    white = background(views, (1.0, 1.0, 1.0))
    surface = rasterize(scene.map(Tensor.float), views, white, backend, surface=True).surface
    assert surface is not None
    return surface


def _same(got: Surface, expected: Surface, atol: float = 1e-4) -> None:
    for name, value in vars(expected).items():
        torch.testing.assert_close(vars(got)[name], value, rtol=0, atol=atol, msg=name)


def _disc(
    mean: tuple[float, float, float], tilt: float, opacity: float = 0.9, about: int = 1
) -> Gaussians:
    """A disc of radius 0.1 whose normal, at tilt 0, is z; turned about x (0), y (1) or z (2)."""
    quat = torch.zeros(1, 4, dtype=F64)
    quat[0, 0], quat[0, 1 + about] = math.cos(tilt / 2), math.sin(tilt / 2)
    flat = torch.tensor([[0.1, 0.1, 0.001]], dtype=F64).log()
    return Gaussians(**vars(splat(mean, opacity, 0.5)) | {"quats": quat, "log_scales": flat})


def _plane(tilt: float) -> Gaussians:
    """49 discs on a plane through the origin, which is turned about y."""
    steps = [0.1 * i for i in range(-3, 4)]
    across, back = math.cos(tilt), -math.sin(tilt)
    return both(*(_disc((x * across, y, x * back), tilt) for x in steps for y in steps))


def test_one_splat_has_the_depth_of_its_centre(backend: str) -> None:
    """The expected depth is 2 where anything is drawn, the median where alpha is at least 1/2."""
    scene, cameras = splat((0, 0, 0), 0.9, 0.5), camera(size=21)
    alphas = rasterize(scene, cameras, background(cameras), "reference").alphas
    assert (alphas == 0).any()
    surface = _surface(scene, cameras, backend)
    depths, medians = 2.0 * (alphas > 0).float(), 2.0 * (alphas > 0.5).float()
    torch.testing.assert_close(surface.depths, depths, rtol=0, atol=1e-4)
    torch.testing.assert_close(surface.median_depths, medians, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("near", "far", "median"), [(0.3, 0.6, 2.5), (0.6, 0.3, 1.5), (0.2, 0.3, 0.0)]
)
def test_two_in_a_row_by_hand(near: float, far: float, median: float, backend: str) -> None:
    """At depths 1.5 and 2.5, the weights are ``near`` and ``far (1 - near)``."""
    scene = both(splat((0, 0, -0.5), far, 0.5), splat((0, 0, 0.5), near, 0.5))
    surface = _surface(scene, camera(), backend)
    weights = near, far * (1 - near)
    expected = (1.5 * weights[0] + 2.5 * weights[1]) / sum(weights)
    assert surface.depths[0, 4, 4].item() == pytest.approx(expected, abs=1e-5)
    assert surface.median_depths[0, 4, 4].item() == pytest.approx(median, abs=1e-6)


@pytest.mark.parametrize("tilt", [0.0, 0.6, -0.6])
@pytest.mark.parametrize("side", [2.0, -2.0])
def test_a_plane_has_its_normal_towards_the_camera(tilt: float, side: float, backend: str) -> None:
    """From behind, the normal is the opposite one, with a negative z."""
    surface = _surface(_plane(tilt), camera(size=5, eye=(0, 0, side)), backend)
    normal = torch.tensor([math.sin(tilt), 0.0, math.cos(tilt)]) * math.copysign(1, side)
    expected = normal.view(1, 3, 1, 1).expand(1, 3, 5, 5)
    torch.testing.assert_close(surface.normals, expected, rtol=0, atol=1e-4)


def test_a_plane_has_the_depths_of_its_points(backend: str) -> None:
    facing = _surface(_plane(0.0), camera(size=5), backend)
    for depths in (facing.depths, facing.median_depths):
        torch.testing.assert_close(depths, torch.full((1, 5, 5), 2.0), rtol=0, atol=1e-4)
    # Turned so that +x, on the right of the image, is farther away. The discs overlap, and those
    # with a nearer centre come first.
    depths = _surface(_plane(0.6), camera(size=5), backend).depths
    assert (depths.diff(dim=-1) > 0.02).all()
    assert 2.0 - 0.3 * math.sin(0.6) < depths[0, 2, 2].item() < 2.0


def test_normals_that_disagree_are_averaged(backend: str) -> None:
    """Two half opaque discs at the same place, turned by 0.6 to the left and to the right."""
    scene = both(_disc((0, 0, 0), 0.6, 0.5), _disc((0, 0, 0), -0.6, 0.5))
    normal = _surface(scene, camera(), backend).normals[0, :, 4, 4]
    expected = torch.tensor([(0.5 - 0.25) * math.sin(0.6) / 0.75, 0.0, math.cos(0.6)])
    torch.testing.assert_close(normal, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_normal_is_the_shortest_axis(axis: int) -> None:
    scene, eyes = random_scene(20), torch.tensor([[0.0, 0, 2], [1, -1, 0.5]], dtype=F64)
    scene.log_scales[:, axis] = -5
    normals = scene.normals(eyes)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(2, 20, dtype=F64))
    axes = quats_to_rotmats(scene.quats)[:, :, axis].expand(2, -1, -1)
    torch.testing.assert_close((normals * axes).sum(-1).abs(), torch.ones(2, 20, dtype=F64))
    assert ((eyes[:, None] - scene.means) * normals).sum(-1).min() >= 0


def test_nothing_drawn_is_zero_everywhere(backend: str) -> None:
    """An empty scene, and a splat behind the camera."""
    for scene in (random_scene(0), splat((0, 0, 5), 0.9, 0.5)):
        surface = _surface(scene, camera(size=20), backend)
        assert surface.depths.shape == surface.median_depths.shape == (1, 20, 20)
        assert surface.normals.shape == (1, 3, 20, 20)
        assert not any(value.any() for value in vars(surface).values())


def test_rows_that_cannot_be_drawn_change_nothing(backend: str) -> None:
    good, bad = random_scene(6), []
    for name in vars(good):
        row = {key: v[:1].clone() for key, v in vars(good).items()}
        row[name].view(-1)[0] = math.nan
        bad.append(Gaussians(**row))
    _same(_surface(both(*bad, good), camera(), backend), _surface(good, camera(), backend), 1e-6)


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_kernels)])
def test_rows_that_cannot_be_drawn_poison_no_gradient(backend: str) -> None:
    scene = random_scene(5)
    scene.means[0], scene.quats[1], scene.log_scales[2] = math.nan, math.nan, math.inf
    scene.quats[3] = 0.0
    leaf = scene.map(lambda v: v.clone().requires_grad_())
    surface = rasterize(leaf, camera(), background(camera()), backend, surface=True).surface
    assert surface is not None
    (surface.depths.sum() + surface.normals.sum()).backward()
    for name in ("means", "quats", "log_scales", "opacity_logits"):
        grad = vars(leaf)[name].grad
        assert grad.isfinite().all()
        assert not grad[:4].any()
        assert grad[4].any()


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_kernels)])
def test_depths_and_normals_have_gradients_and_medians_have_none(backend: str) -> None:
    scene, cameras = random_scene(2, seed=1), camera(3)
    names = list(vars(scene))
    inputs = [v.clone().requires_grad_() for v in vars(scene).values()]

    def render(*values: Tensor) -> tuple[Tensor, Tensor]:
        drawn = Gaussians(**dict(zip(names, values, strict=True)))
        surface = rasterize(drawn, cameras, background(cameras), backend, surface=True).surface
        assert surface is not None
        assert not surface.median_depths.requires_grad
        return surface.depths, surface.normals

    assert torch.autograd.gradcheck(render, inputs, eps=1e-6, atol=1e-6)


@needs_kernels
@given(
    count=st.integers(0, 40),
    scale=st.sampled_from([1e-4, 0.03, 0.3, 3.0]),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    views=st.integers(0, 3),
    opaque=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_cpu_agrees_with_the_reference_in_double(
    count: int, scale: float, width: int, height: int, views: int, opaque: bool, seed: int
) -> None:
    scene, cameras = (
        random_scene(count, seed, 0, 0.4, scale),
        wide_views(width, height, views, seed, F64),
    )
    scene = Gaussians(**vars(scene) | {"opacity_logits": scene.opacity_logits + 5 * opaque})
    renders = [
        rasterize(scene, cameras, torch.zeros(views, 3, dtype=F64), one, surface=True)
        for one in ("reference", "cpu")
    ]
    expected, got = (render.surface for render in renders)
    assert expected is not None
    assert got is not None
    _same(got, expected, 1e-7)
    torch.testing.assert_close(renders[1].images, renders[0].images)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_reference_in_single(seed: int, backend: str) -> None:
    """Over several tiles, except at rare pixels where alpha is at the cut or light at one half."""
    scene = random_scene(150 if backend == "gsplat" else 600, seed, 3, 0.4, 0.06)
    cameras = wide_views(40, 24, 2, seed)
    expected, got = (_surface(scene, cameras, one) for one in ("reference", backend))
    assert (expected.median_depths > 0).any()
    for name, value in vars(expected).items():
        off = (vars(got)[name] - value).abs() > 1e-4
        assert off.double().mean() < 1e-3, name


def test_images_are_the_same_with_a_surface(backend: str) -> None:
    scene = random_scene(30, k=8).map(Tensor.float)
    cameras = wide_views(20, 12, 2, 0)
    plain, full = (
        rasterize(scene, cameras, torch.full((2, 3), 0.3), backend, surface=surface)
        for surface in (False, True)
    )
    assert plain.surface is None
    for name in ("images", "alphas", "means2d"):
        torch.testing.assert_close(vars(full)[name], vars(plain)[name], rtol=0, atol=1e-5)
    assert torch.equal(full.visible, plain.visible)


@needs_kernels
def test_a_step_composites_once_and_finds_no_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    composite = kernels.ops.composite

    def spy(*args: Any) -> Any:
        out = composite(*args)
        calls.append((args[-1], len(out[-1])))
        return out

    monkeypatch.setattr(kernels.ops, "composite", spy)
    scene, cameras = random_scene(5), camera()
    rasterize(scene, cameras, background(cameras), "cpu")
    assert calls == [(False, 0)]
    rasterize(scene, cameras, background(cameras), "cpu", surface=True)
    assert calls[1:] == [(False, 0), (False, 0), (True, 1)]


@pytest.mark.parametrize("surface", [False, True])
def test_gsplat_is_asked_for_its_own_mode(surface: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    gsplat_in_torch.install(monkeypatch)
    import gsplat

    asked: dict[str, Any] = {}
    real = gsplat.rasterization

    def spy(**kwargs: Any) -> Any:
        asked.update(kwargs)
        return real(**kwargs)

    monkeypatch.setattr(gsplat, "rasterization", spy)
    scene, cameras = random_scene(4, k=8).map(Tensor.float), wide_views(8, 6, 2, 0)
    rasterize(scene, cameras, torch.full((2, 3), 0.5), "gsplat", surface=surface)
    assert asked["render_mode"] == ("RGB+ED" if surface else "RGB")
    assert asked["packed"] is False
    assert asked["colors"].shape == (2, 4, 6 if surface else 3)
    torch.testing.assert_close(asked["colors"][..., :3], scene.colors(cameras.eyes))
    if surface:
        torch.testing.assert_close(asked["colors"][..., 3:], scene.normals(cameras.eyes))
        assert asked["backgrounds"].tolist() == [[0.5] * 3 + [0.0] * 3] * 2
    else:
        assert asked["backgrounds"].shape == (2, 3)
