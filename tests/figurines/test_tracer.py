"""The tracer, compared with pixels that can be worked out by hand."""

import math

import pytest
import torch

from esd_splat.figurines import COLOURS, HARD_KINDS, HELD_OUT, KINDS, caption, parse, parts, trace
from esd_splat.figurines.tracer import AMBIENT, LIGHT
from esd_splat.scene.cameras import orbit_cameras


def _camera(azimuth: float, elevation: float = 15.0, size: int = 64):
    one = torch.ones(1)
    return orbit_cameras(azimuth * one, elevation * one, 3.2 * one, 40.0 * one, size)


def _shot(kind: str, colour: str, azimuth: float, elevation: float = 15.0, grey: float = 0.5):
    camera = _camera(azimuth, elevation)
    return trace(kind, colour, camera.viewmats, camera.Ks, 64, torch.full((1, 3), grey))[0]


def test_there_are_at_least_eight_kinds_and_colours_two_kinds_hard() -> None:
    assert len(KINDS) >= 8
    assert len(COLOURS) >= 8
    assert len(HARD_KINDS) == 2
    assert set(HARD_KINDS) <= set(KINDS)
    assert len({kind for kind, _ in HELD_OUT}) == len(HELD_OUT)


def test_the_pixel_on_the_axis_is_the_nearest_part_in_lambert_shade() -> None:
    """From azimuth 180, the robot's centre is its grey backpack, an ellipsoid of known normal."""
    camera = _camera(180.0, 0.0, size=65)
    seen = trace("robot", "red", camera.viewmats, camera.Ks, 65, torch.zeros(1, 3), 1)[0]
    pack = next(part for part, _ in parts("robot", "red") if part.centre[2] == -0.38)
    # A ray along the pack's own axis: x = 0, height of its centre, seen from far behind. The
    # camera looks along +z from z = -3.2, so the pixel is where that height projects.
    focal = 0.5 * 65 / math.tan(math.radians(20))
    row = 32.5 - focal * pack.centre[1] / (3.2 - 0.58)
    y = pack.centre[1]
    normal_z = -1.0
    light = torch.nn.functional.normalize(torch.tensor(LIGHT), dim=0)
    shade = AMBIENT + (1 - AMBIENT) * max(0.0, float(light[2]) * normal_z)
    expected = shade * torch.tensor([0.50, 0.52, 0.55])
    assert y < 0
    torch.testing.assert_close(seen[:, int(row), 32], expected, atol=0.03, rtol=0)


def test_only_the_front_has_eyes_and_only_the_back_a_tail() -> None:
    def black(azimuth: float) -> int:
        return int((_shot("owl", "yellow", azimuth).amax(0) < 0.1).sum())

    assert black(0.0) > 20
    assert black(180.0) == 0


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "mushroom"])
def test_figurines_are_symmetric_but_for_the_light(kind: str) -> None:
    """The shape seen from the left is the mirror image of the shape seen from the right."""
    left, right = _shot(kind, "red", 60.0, grey=0.0), _shot(kind, "red", -60.0, grey=0.0)
    torch.testing.assert_close(left.amax(0) > 0, right.flip(-1).amax(0) > 0, atol=0, rtol=0)


def test_light_stays_with_the_world() -> None:
    """Seen from straight above, the image rotates with the camera and keeps its colours."""
    above, turned = _shot("car", "red", 0.0, 89.99), _shot("car", "red", 90.0, 89.99)
    torch.testing.assert_close(above, turned.rot90(1, (1, 2)), atol=0.35, rtol=0)
    assert (above - turned.rot90(1, (1, 2))).abs().mean() < 0.003


def test_background_shows_exactly_where_nothing_is_hit() -> None:
    one, other = _shot("duck", "blue", 20.0, grey=0.2), _shot("duck", "blue", 20.0, grey=0.8)
    difference = (other - one) / 0.6
    assert set((difference[0, 0] * 1000).round().int().tolist()) == {1000}
    torch.testing.assert_close(difference[:, 32, 32], torch.zeros(3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("view", [None, "front", "side", "back"])
def test_a_caption_is_read_back(kind: str, view: str | None) -> None:
    for colour in COLOURS:
        assert parse(caption(kind, colour, view)) == (kind, colour)


@pytest.mark.parametrize("prompt", ["", "a corgi", "a red", "an owl", "a red owl and a blue cat"])
def test_what_names_no_single_figurine_is_none(prompt: str) -> None:
    assert parse(prompt) is None
