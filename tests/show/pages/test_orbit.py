"""What a page shows of a scene is what its cameras see."""

import re

import pytest

from esd_splat.show.pages import AZIMUTHS, ELEVATIONS, Frames, controls, photograph, stage, view
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


def test_a_page_without_javascript_shows_the_front_and_each_view(frames: Frames) -> None:
    assert f'src="{frames[0]}"' in stage(frames, 0, "a <ball>")
    assert 'alt="a &lt;ball&gt;"' in stage(frames, 0, "a <ball>")
    assert f'src="{frames[7]}"' in view(frames, 0, 7)


@pytest.mark.parametrize(
    ("fronts", "frames_off"),
    [([90.0, -90.0, None], [10, 30, 0]), ([-8.3, 176.0, 359.0], [39, 20, 0])],
)
def test_fronts_are_turned_by_whole_frames(fronts: list, frames_off: list[int]) -> None:
    page = controls([["x"]] * 3, fronts)
    assert 'name="align"' in page
    assert f'"fronts": {frames_off}' in page


@pytest.mark.parametrize("fronts", [[], [None, None], [1.0, -2.0]])
def test_there_is_nothing_to_align_where_all_face_the_same_way(fronts: list) -> None:
    assert not re.search("name=.align", controls([["x"]] * len(fronts), fronts))
