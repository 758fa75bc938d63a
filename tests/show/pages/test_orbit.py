"""What a page shows of a scene is what its cameras see."""

import pytest

from esd_splat.show.pages import AZIMUTHS, ELEVATIONS, Frames, Scenes, photograph
from tests.runs import balls
from tests.show.pages.pictures import middle, small_frames

PER_QUARTER = AZIMUTHS // 4


@pytest.fixture(scope="module")
def frames() -> Frames:
    with small_frames():
        return photograph(balls())


def test_a_turn_begins_at_the_front_and_goes_by_the_right(frames: Frames) -> None:
    assert len(frames) == AZIMUTHS * len(ELEVATIONS)
    for height in range(len(ELEVATIONS)):
        turn = frames[AZIMUTHS * height :][:AZIMUTHS]
        seen = [middle(frame) for frame in turn[::PER_QUARTER]]
        assert seen == ["red", "green", "blue", "black"], ELEVATIONS[height]


def test_elevations_differ(frames: Frames) -> None:
    assert len(set(frames)) == len(frames)


@pytest.mark.parametrize(
    ("fronts_deg", "frames"),
    [
        ([90.0, -90.0, None], [10, 30, 0]),
        ([-8.3, 176.0, 359.0], [39, 20, 0]),
        ([1.0, -2.0, None], [0, 0, 0]),
    ],
)
def test_fronts_are_turned_by_whole_frames(
    fronts_deg: list[float | None], frames: list[int]
) -> None:
    assert Scenes([["x"]] * 3, fronts_deg).fronts == frames
