import pytest
import torch

from esd_splat.errors import BackendError
from esd_splat.scene import kernels
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import RASTERIZERS, contributions, rasterize, resolve_backend
from tests.scene.rasterize.scenes import background, camera, random_scene, wide_views


def test_auto_takes_the_fastest_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_backend("auto", "cuda") == "gsplat"
    for device in ("cpu", "mps"):
        monkeypatch.setattr(kernels, "MISSING", "")
        assert resolve_backend("auto", device) == "cpu"
        monkeypatch.setattr(kernels, "MISSING", "not compiled")
        assert resolve_backend("auto", device) == "reference"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_was_asked_for_is_used_wherever_it_runs(device: str) -> None:
    assert resolve_backend("reference", device) == "reference"
    assert resolve_backend("gsplat", "cuda") == "gsplat"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gsplat", "needs a CUDA device, and this run is on cpu; choose backend=auto"),
        ("cpu", "needs the compiled kernels; compile them with"),
        ("cuda", "is not one of auto, cpu, gsplat, reference"),
    ],
)
def test_what_cannot_run_is_refused_with_the_way_out(
    name: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "MISSING", "not compiled")
    with pytest.raises(BackendError, match=says) as error:
        resolve_backend(name, "cpu")
    assert "\n" not in str(error.value)
    with pytest.raises(BackendError, match=says):
        rasterize(random_scene(1), camera(), background(camera()), name)


def test_gsplat_is_never_reached_without_cuda() -> None:
    with pytest.raises(BackendError, match="needs a CUDA device"):
        RASTERIZERS["gsplat"](random_scene(1), camera(), background(camera()), False)


def test_auto_is_the_backend_it_resolves_to() -> None:
    scene, cameras = random_scene(4), camera()
    auto = rasterize(scene, cameras, background(cameras), "auto").images
    resolved = resolve_backend("auto", "cpu")
    assert torch.equal(auto, rasterize(scene, cameras, background(cameras), resolved).images)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_contributions_are_all_the_light_there_is(backend: str) -> None:
    """Contributions add up to the opacity of the pixels, and faint Gaussians have none."""
    if backend == "cpu" and kernels.MISSING:
        pytest.skip(kernels.MISSING)
    scene, cameras = random_scene(50, 0, 15, 0.4, 0.06), wide_views(40, 32, 3, 0)
    scene = scene.map(lambda v: v.float())
    behind = Gaussians(**vars(scene) | {"opacity_logits": scene.opacity_logits.clone()})
    behind.opacity_logits[:5] = -9.0
    with torch.no_grad():  # as densification asks
        light = contributions(behind, cameras, backend)
        alphas = rasterize(behind, cameras, torch.zeros(3, 3), backend).alphas
    assert light.shape == (50,)
    torch.testing.assert_close(light.sum(), alphas.sum(), rtol=1e-4, atol=0.0)
    assert (light[:5] == 0).all()
    assert (light[5:] > 0).any()
