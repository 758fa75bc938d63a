"""True pictures are seen from where they were taken."""

import pytest
import torch

from esd_splat.run.measure import side_shares
from esd_splat.scene.cameras import Orbit
from tests.run.measure import worlds


@pytest.mark.parametrize("kind", ["owl", "mushroom"])
def test_pictures_from_all_around_are_a_quarter_a_half_and_a_quarter(kind: str) -> None:
    """None of them on a border, which is at 45 degrees."""
    images = worlds.looking_like(worlds.RING[::2] + 22.5, kind, "green")
    found = side_shares(images, f"a green {kind}", Orbit())
    assert found == {"front": 0.25, "side": 0.5, "back": 0.25}


@pytest.mark.parametrize(
    ("azimuth", "side"), [(-40, "front"), (50, "side"), (-130, "side"), (140, "back")]
)
@pytest.mark.parametrize("background", [0.0, 0.45, 0.9])
def test_one_side_before_any_background(azimuth: float, side: str, background: float) -> None:
    images = worlds.looking_like(torch.tensor([float(azimuth)]).double())
    grey = worlds.GREY[0, 0]
    images = torch.where((images - grey).abs().amax(1, keepdim=True) < 1e-3, background, images)
    found = side_shares(images, "a red owl", Orbit())
    assert found is not None
    assert found.pop(side) == 1
    assert set(found.values()) == {0}


def test_what_is_no_figurine_has_no_known_sides() -> None:
    assert side_shares(worlds.nothing(), "a corgi", Orbit()) is None
