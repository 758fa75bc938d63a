"""The benchmark of judges: what it counts, and what it refuses."""

import json
from pathlib import Path

import pytest

from benchmarks.judges import Judged, confusion_of, judged, main, page
from esd_splat.errors import EsdSplatError
from tests.runs import make_run


def _run(truth: str, found: str) -> Judged:
    return Judged("a red owl", 0, "sds", 500, truth, found)


RUNS = [
    *[_run("one face", "one face")] * 5,
    *[_run("one face", "too wide")] * 2,
    *[_run("several faces", "one face")] * 1,
    *[_run("no face", "several faces")] * 4,
]


def test_any_two_problems_agree_that_it_is_not_one_face() -> None:
    assert confusion_of(RUNS) == [[5, 2], [1, 4]]


def test_the_page_holds_the_counts() -> None:
    """9 of 12 agree, and 6 by chance would: (7 * 6 + 5 * 6) / 144 = 0.5."""
    said = page(RUNS, [], 1.0)
    assert "12 runs (40 are wanted), of which 5 do not have one face" in said
    assert "9 of 12: 0.75 [0.428, 0.945],\nkappa 0.50" in said
    assert "| one face | 5 | 2 |\n| not | 1 | 4 |" in said


@pytest.mark.parametrize(
    ("finished", "why"), [(False, "has no summary.json"), (True, "has no measures")]
)
def test_runs_without_the_truth_are_refused(tmp_path: Path, finished: bool, why: str) -> None:
    with pytest.raises(EsdSplatError, match=why):
        judged(make_run(tmp_path / "run", finished=finished), {})


def test_a_run_is_judged_by_its_teacher(model: Path, tmp_path: Path) -> None:
    """The tiny teacher cannot tell, but its answer is put beside the truth."""
    config = f"prompt: a red owl\nteacher: {{model: {model}}}\nmeasure: {{views: 8}}\n"
    run = make_run(tmp_path / "run", config, measures={"faces": 2, "front_share": 1.0})
    out = tmp_path / "judges.md"
    main([str(run), "--seeds", "--out", str(out)])
    assert "1 runs (40 are wanted), of which 1 do" in out.read_text()
    assert "| several faces |" in out.read_text()
    assert json.loads((run / "summary.json").read_text())["steps"] == 500
