"""The fast backend of each device in single precision, against the reference on random scenes."""

import pytest
import torch
from torch import Tensor

from esd_splat.scene import kernels
from esd_splat.scene.cameras import Orbit
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import rasterize
from tests.scene.rasterize.scenes import both, drawn, random_scene, wide_views

FAST = {"cpu": "cpu", "cuda": "gsplat"}
GRADIENTS = {"cpu": 1e-3, "cuda": 1e-2}
"""Allowed error of gradients relative to their norm; gsplat is compiled with fast math."""


@pytest.fixture(autouse=True)
def _kernels(device: str) -> None:
    if device == "cpu" and kernels.MISSING:
        pytest.skip(kernels.MISSING)


def _on(scene: Gaussians, device: str) -> Gaussians:
    return scene.map(lambda v: v.float().to(device))


def _error(got: Tensor, expected: Tensor) -> Tensor:
    return (got - expected).norm() / expected.norm()


@pytest.mark.parametrize("k", [0, 15])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_reference_in_single(seed: int, k: int, device: str) -> None:
    """Errors are within 1e-4, except at rare pixels where alpha is at the cut, within 1/255."""
    scene = _on(random_scene(600, seed, k, 0.4, 0.06), device)
    cameras = wide_views(72, 50, 3, seed).to(device)
    expected, got = (drawn(scene, cameras, backend) for backend in ("reference", FAST[device]))
    off = (got["images"] - expected["images"]).abs()
    assert (off > 1e-4).double().mean() < 1e-3
    assert off.max() < 5e-3
    if device == "cpu":
        assert torch.equal(got["visible"], expected["visible"])
    for name in [name for name in expected if name.startswith("d ")]:
        assert _error(got[name], expected[name]) < GRADIENTS[device], name


def test_deep_stacks_end_where_the_reference_ends_them(device: str) -> None:
    """With hundreds of opaque layers, those behind the end of a pixel have no gradient."""
    scene = _on(random_scene(800, 1, 0, 0.2, 0.4), device)
    scene = Gaussians(**{**vars(scene), "opacity_logits": scene.opacity_logits + 2})
    cameras = wide_views(40, 40, 1, 0).to(device)
    expected, got = (drawn(scene, cameras, backend) for backend in ("reference", FAST[device]))
    assert (expected["d sh0"] == 0).any()
    assert (expected["alphas"] > 0.999).any()
    off = (got["images"] - expected["images"]).abs()
    assert (off > 1e-4).double().mean() <= (0 if device == "cpu" else 1e-3)
    assert _error(got["d means"], expected["d means"]) < GRADIENTS[device]


@pytest.mark.parametrize("log_scale", [10.0, 30.0, 43.5, 100.0])
def test_huge_scales_poison_nothing(log_scale: float, device: str) -> None:
    good = _on(random_scene(3), device)
    huge = Gaussians(**{**vars(good), "log_scales": torch.full((3, 3), log_scale, device=device)})
    scene = both(good, huge).map(lambda v: v.clone().requires_grad_())
    cameras = Orbit(size=16).turntable(1).to(device)
    rgb = torch.zeros(1, 3, device=device)
    render = rasterize(scene, cameras, rgb, FAST[device])
    render.images.square().sum().backward()
    assert render.images.isfinite().all()
    assert all(v.grad is not None and v.grad.isfinite().all() for v in vars(scene).values())
