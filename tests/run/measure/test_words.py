"""What a person is told of the measures."""

import re

import pytest
import torch

from esd_splat.run.measure import in_words, measure_views
from esd_splat.run.measure.truth import BACKGROUND, Truth
from esd_splat.scene.cameras import Orbit

GOOD = {"faces": 1, "front_share": 1.25, "recognised": 1.0, "psnr_aligned": 31.6158}


def test_a_good_scene() -> None:
    said = "one face, recognised from all 16 sides, 31.6 dB from the truth"
    assert in_words(GOOD, views=16) == said


@pytest.mark.parametrize(
    ("faces", "share", "said"),
    [
        (0, 0.0, "no face,"),
        (1, 1.5, "one face, recognised"),
        (1, 1.75, "one face, 1.8 times as wide as it should be, recognised"),
        (1, 4.0, "one face, 4.0 times as wide as it should be, recognised"),
        (2, 1.75, "two faces, recognised"),
        (6, 3.0, "six faces,"),
        (7, 3.0, "7 faces,"),
    ],
)
def test_faces(faces: int, share: float, said: str) -> None:
    """Of several faces the number says enough; one that never ends is told by its width."""
    assert in_words(GOOD | {"faces": faces, "front_share": share}, views=16).startswith(said)


@pytest.mark.parametrize(
    ("share", "views", "said"),
    [
        (0.0, 16, "recognised from no side,"),
        (1 / 16, 16, "recognised from 1 of 16 sides,"),
        (0.8333, 12, "recognised from 10 of 12 sides,"),
        (1.0, 8, "recognised from all 8 sides,"),
    ],
)
def test_sides(share: float, views: int, said: str) -> None:
    """``recognised`` is a share that was rounded to four digits."""
    assert said in in_words(GOOD | {"recognised": share}, views)


@pytest.mark.parametrize("measures", [None, {}])
def test_what_was_not_measured_is_said_to_be_so(measures: dict[str, float] | None) -> None:
    assert in_words(measures, views=16).startswith("not measured: the truth is known only")


@pytest.mark.parametrize(
    ("confusion", "measured", "said"),
    [
        ([[9, 0, 0], [0, 9, 0], [0, 0, 9]], True, "kappa 1.00 on 27 pictures"),
        ([[9, 0, 0], [9, 0, 0], [9, 0, 0]], True, "kappa 0.00 on 27 pictures: not to be trusted"),
        ([[0, 0, 0]] * 3, False, "agreement not measured"),
    ],
)
def test_a_judgement_is_told_with_its_agreement(
    confusion: list[list[int]], measured: bool, said: str
) -> None:
    known = {"confusion": confusion, "measured": measured}
    found = {"judge": "teacher", "verdict": "several faces", "agreement": known}
    assert in_words(None, 16, found) == f"several faces, as judged by the teacher ({said})"


def test_a_judge_without_words_says_why() -> None:
    found = {"judge": "teacher", "problem": "judge: does not know 'corgi'"}
    assert in_words(None, 16, found) == "not judged by the teacher: judge: does not know 'corgi'"


def test_measures_count_more_than_a_judgement() -> None:
    assert in_words(GOOD, 16, {"judge": "teacher", "problem": "?"}) == in_words(GOOD, 16)


def test_the_measures_of_a_scene_have_all_that_is_told() -> None:
    grey = torch.full((8, 3), BACKGROUND)
    views = Truth("owl", "red", Orbit(), 15.0).views(0.0, grey, 32)
    said = in_words(measure_views(views, grey, "owl", "red", Orbit()), views=8)
    assert re.fullmatch(r"one face, recognised from all 8 sides, \d+\.\d dB from the truth", said)
