"""A scene and a camera that turn together."""

import pytest
import torch

from esd_splat.formats.turn import turned
from esd_splat.scene.cameras import Orbit
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import rasterize
from tests.formats.scenes import scene
from tests.runs import balls

GREY = torch.full((1, 3), 0.5)


def _seen(what: Gaussians, azimuth: float, size: int = 32) -> torch.Tensor:
    angle = torch.tensor([azimuth], dtype=torch.float64)
    cameras = Orbit(size=size).at(angle, torch.full_like(angle, 20))
    double = what.map(torch.Tensor.double)
    cameras = type(cameras)(cameras.viewmats.double(), cameras.Ks.double(), size, size)
    return rasterize(double, cameras, GREY.double(), "reference").images[0]


@pytest.mark.parametrize("coefficients", [0, 3, 8, 15])
@pytest.mark.parametrize("degrees", [37.0, -140.0])
def test_a_camera_that_turns_too_sees_the_same(coefficients: int, degrees: float) -> None:
    original = scene(60, coefficients)
    seen = _seen(turned(original, degrees), 10 + degrees)
    torch.testing.assert_close(seen, _seen(original, 10), atol=1e-4, rtol=0)
    # The test can tell, even where the colours alone would not turn.
    still = Gaussians(**vars(turned(original, degrees)) | {"shN": original.shN})
    assert coefficients == 0 or (_seen(still, 10 + degrees) - seen).abs().max() > 0.01


def test_what_faced_z_faces_x_after_a_quarter() -> None:
    torch.testing.assert_close(turned(balls(), 90).means, balls(1).means, atol=1e-6, rtol=0)


def test_there_and_back_is_the_same_scene() -> None:
    original = scene(100, 15)
    back = turned(turned(original, 77), -77)
    for name, value in vars(original).items():
        torch.testing.assert_close(getattr(back, name), value, atol=2e-6, rtol=1e-6)
