"""Counts, intervals and tests worked out by hand."""

import pytest

from esd_splat.evaluate.table import Row, comparisons, sign_test, tabulate

GOOD, BAD = {"truth": "one face"}, {"truth": "no face"}


def _row(setting: str, lost: str) -> Row:
    """A row whose k-th prompt is lost where ``lost`` has an x."""
    return Row(setting, "truth", {}, {f"prompt {k}": mark == "x" for k, mark in enumerate(lost)})


@pytest.mark.parametrize(("seeds", "lost"), [("..x", False), (".x", True), ("xx.", True)])
def test_a_prompt_is_lost_if_half_of_its_runs_are(seeds: str, lost: bool) -> None:
    said = [BAD if mark == "x" else GOOD for mark in seeds]
    (row,) = tabulate(["(1)"] * len(said), ["a fox"] * len(said), said)
    assert row.lost == {"a fox": lost}
    assert row.counts["no face"] == seeds.count("x")


def test_no_prompt_lost_of_sixteen() -> None:
    row = _row("(1)", "." * 16)
    assert row.interval == pytest.approx((0, 0.206), abs=5e-4)


def test_runs_without_a_verdict_are_left_out() -> None:
    rows = tabulate(["(1)", "(2)"], ["a fox", "a fox"], [{**GOOD, "judge": "too wide"}, BAD])
    assert [(row.setting, row.source) for row in rows] == [
        ("(1)", "truth"),
        ("(2)", "truth"),
        ("(1)", "judge"),
    ]


def test_settings_are_compared_by_the_prompts_that_one_alone_loses() -> None:
    rows = [_row("(1)", "xxxxxx.x"), _row("(2)", ".......x"), _row("(3)", "xxxxxx.xx")]
    lines = comparisons([*rows, Row("(1)", "judge", {}, {"a fox": True})])
    assert lines == [
        "(1) and (2) by truth, prompts in common: 8, lost by (1) only: 6, by (2) only: 0, "
        "exact p = 0.031",
        "(1) and (3) by truth, prompts in common: 8, lost by (1) only: 0, by (3) only: 0, "
        "exact p = 1",
    ]


def test_the_sign_test() -> None:
    assert sign_test(0, 0) == sign_test(2, 2) == 1
    assert sign_test(0, 6) == sign_test(6, 0) == 2 / 64
    assert sign_test(1, 5) == pytest.approx(2 * 7 / 64)
