"""The front is found where it was put, and nowhere if there is none."""

import pytest
import torch

from esd_splat.run.measure.front import front_azimuth
from esd_splat.scene.cameras import wrap_deg
from tests.run.measure import worlds

SURE = torch.eye(3)


def _sides(azimuths: torch.Tensor) -> torch.Tensor:
    """What a judge says that never errs."""
    off = wrap_deg(azimuths).abs()
    return SURE[(off > 45).long() + (off >= 135).long()]


@pytest.mark.parametrize("front", [0.0, 33.0, 90.0, 179.0, -120.0])
@pytest.mark.parametrize("views", [8, 16, 36])
def test_within_half_a_step_between_views(front: float, views: int) -> None:
    found = front_azimuth(_sides(360 * torch.arange(views) / views - front))
    assert found is not None
    assert abs(wrap_deg(found - front)) <= 180 / views + 0.1


def test_an_unsure_judge_that_leans_to_the_front_finds_the_same() -> None:
    sides = _sides(worlds.RING - 67.5)
    unsure = 0.5 * sides + 0.5 * torch.tensor([0.8, 0.15, 0.05])
    assert front_azimuth(unsure) == front_azimuth(sides) == 67.5


@pytest.mark.parametrize(
    "looks", [2 * worlds.RING, torch.zeros(16), torch.full((16,), 90.0), torch.full((16,), 180.0)]
)
def test_two_fronts_or_a_single_side_all_around_have_none(looks: torch.Tensor) -> None:
    assert front_azimuth(_sides(looks)) is None
