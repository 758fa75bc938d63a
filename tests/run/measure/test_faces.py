"""Faces counted on sequences of poses whose answer is plain."""

import pytest
import torch

from esd_splat.run.measure.faces import count_faces, front_share

TRUTH = torch.arange(16) * 22.5
SEEN = torch.zeros(16, dtype=torch.bool)


@pytest.mark.parametrize("start", [0.0, 5.0, 11.25, 170.0, -60.0])
@pytest.mark.parametrize("count", [8, 12, 16, 64])
def test_the_truth_has_one_face_at_any_rotation(start: float, count: int) -> None:
    looks = torch.arange(count) * 360 / count + start
    blank = torch.zeros(count, dtype=torch.bool)
    assert count_faces(looks, blank) == 1
    assert 0.75 <= front_share(looks, blank) <= 1.5


def test_a_front_that_never_ends_is_one_range_four_times_too_long() -> None:
    assert count_faces(torch.zeros(16), SEEN) == 1
    assert front_share(torch.zeros(16), SEEN) == 4.0


@pytest.mark.parametrize("faces", [2, 3, 4, 5])
@pytest.mark.parametrize("start", [0.0, 3.0, 11.25])
def test_repeated_fronts_are_counted_with_and_without_sides_between(
    faces: int, start: float
) -> None:
    width = 360 / faces
    folded = (TRUTH + start + width / 2) % width - width / 2
    assert count_faces(folded, SEEN) == faces
    if faces <= 4:
        assert count_faces(faces * TRUTH + start, SEEN) == faces


def test_a_lone_odd_view_does_not_split_a_face_but_a_lone_front_is_one() -> None:
    looks = TRUTH.clone()
    looks[1] = 120.0
    assert count_faces(looks, SEEN) == 1
    looks[8] = 10.0
    assert count_faces(looks, SEEN) == 2


def test_no_front_is_no_face() -> None:
    assert count_faces(torch.full((16,), 180.0), SEEN) == 0
    assert front_share(torch.full((16,), 180.0), SEEN) == 0.0


def test_a_blank_view_is_no_front() -> None:
    assert count_faces(torch.zeros(16), ~SEEN) == 0
    assert front_share(torch.zeros(16), ~SEEN) == 0.0


def test_the_range_ends_at_45_degrees() -> None:
    assert count_faces(torch.full((16,), -45.0), SEEN) == 1
    assert count_faces(torch.full((16,), 46.0), SEEN) == 0


def test_poses_that_go_the_other_way_round_have_one_front_too() -> None:
    assert count_faces(-TRUTH, SEEN) == 1
