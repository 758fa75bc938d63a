"""What ``docs/evaluate.md`` and ``docs/study.md`` say is so."""

import re
from pathlib import Path

import pytest

from esd_splat.config_files import find_config
from esd_splat.evaluate.evaluation import PICTURES, VIEWS
from esd_splat.evaluate.table import sign_test
from esd_splat.run.measure import floaters, front
from esd_splat.run.measure.consistency import SAME_SURFACE
from esd_splat.run.measure.faces import FRONT_DEG, JANUS_SHARE
from esd_splat.run.measure.judges import TeacherJudge
from esd_splat.run.measure.judges.agreement import PICTURES as AGREED
from esd_splat.run.measure.judges.agreement import TRUSTED

ROOT = Path(__file__).parents[2]
EVALUATE, STUDY = (
    " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split())
    for name in ("evaluate.md", "study.md")
)


def test_the_cost_of_the_judge() -> None:
    passes = TeacherJudge().passes
    kinds = len(PICTURES)
    assert f"{passes} passes through the network for each picture" in STUDY
    assert f"{VIEWS * kinds * passes} for each run ({VIEWS} views" in STUDY
    assert f"and {AGREED * kinds * passes} for its agreement" in STUDY


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ((10, 0), "p = 0.002"),
        ((16, 6), "16 against 6 it gives p = 0.052"),
        ((6, 0), "6 against 0 gives p = 0.031"),
        ((5, 0), "5 against 0 gives 0.062"),
    ],
)
def test_the_chances(split: tuple[int, int], words: str) -> None:
    assert words in STUDY
    assert words.endswith(f"{sign_test(*split):.2g}") or words.endswith(f"{sign_test(*split):.3f}")


def test_the_constants() -> None:
    assert f"differs by less than {SAME_SURFACE}" in EVALUATE
    assert " x ".join(3 * [str(floaters.CELLS)]) in EVALUATE
    assert f"a sum of at least {floaters.DENSE}" in EVALUATE
    assert f"its height is below {front.LEAST_CONTRAST}" in EVALUATE
    assert f"kappa is below {TRUSTED}" in EVALUATE
    assert JANUS_SHARE * 2 * FRONT_DEG / 360 == 3 / 8


def test_the_files_that_they_name_exist() -> None:
    for name in re.findall(r"configs/\w+\.txt", EVALUATE + STUDY):
        assert (ROOT / name).exists()
    assert find_config("esd_sd.yaml")
