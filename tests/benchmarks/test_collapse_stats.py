"""The arithmetic of the study: means, shares of prompts, and comparisons prompt by prompt."""

import math

import pytest

from benchmarks.collapse.experiments import EXPERIMENTS
from benchmarks.collapse.facts import NOT_RUN, Facts, losses, prompts_lost, verdict_of
from benchmarks.collapse.plan import Setting
from benchmarks.collapse.runs import Row
from benchmarks.collapse.stats import Share, Signs, interval, share, signs


def test_an_interval_resamples_prompts_not_runs() -> None:
    sure = interval({"a": [1.0, 1.0], "b": [1.0]})
    assert sure is not None
    assert (sure.mean, sure.low, sure.high) == (1.0, 1.0, 1.0)
    # Two prompts, each all or nothing: any resample has mean 0, 1/2 or 1, a quarter of them 0.
    split = interval({"a": [0.0] * 50, "b": [1.0] * 50})
    assert split is not None
    assert (split.mean, split.low, split.high) == (0.5, 0.0, 1.0)
    many = interval({str(i): [float(i % 2)] for i in range(400)})
    assert many is not None
    # Of a fair coin's mean over 400: 1.96 / (2 sqrt(400)) to either side.
    assert (many.low, many.high) == pytest.approx((0.451, 0.549), abs=0.005)
    assert interval({}) is None


def test_a_prompt_is_a_yes_if_at_least_half_of_its_answers_are() -> None:
    """Seeds of a prompt are no trials of their own: only prompts count."""
    found = share({"a": [True] * 3, "b": [True, False], "c": [False, False, True], "d": []})
    assert found == Share(2, 3)
    assert share({str(i): [False] * 4 for i in range(16)}) == Share(0, 16)
    assert str(Share(0, 16)) == "0 of 16 [0, 0.206]"
    assert Share(0, 16).ends == (0.0, pytest.approx(1 - 0.025 ** (1 / 16)))
    assert Share(0, 0).ends == (0.0, 1.0)


@pytest.mark.parametrize(
    ("more", "less", "p"),
    # Twice the tail of a fair coin: 2 (1) / 2^8, 2 (1 + 6) / 2^6, and at most 1.
    [(8, 0, 2 / 256), (0, 8, 2 / 256), (5, 1, 14 / 64), (3, 3, 1.0), (0, 0, 1.0), (4, 0, 1 / 8)],
)
def test_the_sign_test_is_exact(more: int, less: int, p: float) -> None:
    assert Signs(more, less, ties=7).p == pytest.approx(p)


def test_the_sign_test_is_wrong_as_seldom_as_it_says() -> None:
    """Of all outcomes of 12 fair coins, those with a p of at most 0.05 have no more than that."""
    chance = sum(math.comb(12, k) for k in range(13) if Signs(k, 12 - k).p <= 0.05) / 2**12
    assert 0.01 < chance <= 0.05


def test_settings_are_compared_prompt_by_prompt() -> None:
    first = {"a": [1.0, 1.0], "b": [0.0, 1.0], "c": [0.0], "d": [3.0]}
    second = {"a": [1.0, 0.0], "b": [1.0, 0.0], "c": [1.0], "d": [2.0]}
    assert signs(first, second) == Signs(more=2, less=1, ties=1)


ESD, VSD = "ESD (pool)", "VSD, former"


def _row(setting: Setting, prompt: str, seed: int, **found: object) -> Row:
    row: Row = {"keys": setting.keys, "prompt": prompt, "seed": seed}
    return row | {"faces": 1, "front_share": 1.0, "psnr_aligned": 30.0, "seconds": 10.0} | found


def test_facts_count_runs_prompts_and_what_they_share() -> None:
    settings = EXPERIMENTS["full"].settings
    esd, vsd = settings[ESD], settings[VSD]
    rows = [
        _row(esd, "a red owl", 0, psnr_aligned=32.0, seconds=5.0),
        _row(esd, "a red owl", 1, psnr_aligned=34.0),
        _row(esd, "a blue cat", 0, faces=0),
        _row(vsd, "a red owl", 0, faces=2),
        _row(vsd, "a blue cat", 0, front_share=1.75),
        _row(vsd, "a pink cat", 0, faces=0),  # not a prompt of the table
    ]
    facts = Facts(rows)
    assert [verdict_of(row) for row in rows[2:5]] == ["no face", "several faces", "too wide"]
    assert losses(rows[:3]) == "1 of 3 no face"
    assert losses(rows[:2]) == "0 of 2"
    assert prompts_lost(facts.runs("full", ESD)) == Share(1, 2)
    assert facts.lost("full", ESD, VSD) == "3 of 5"
    assert facts.lost("full", VSD, way="too wide") == "1 of 2"
    assert facts.lost("full", ESD, of="owl", seed=1) == "0 of 1"
    assert facts.where("full", ESD, VSD) == "cat and owl"
    # The second seed has no partner.
    assert facts.gain("full", ESD, VSD) == "1.0"
    assert facts.times("full", ESD, VSD) == "1.5"
    assert facts.more_lost("full", VSD, ESD) == Signs(more=1, less=0, ties=1)
    assert facts.nearer("full", ESD, VSD) == Signs(more=1, less=0, ties=1)
    assert facts.db("full", ESD, VSD) == "30.0 to 32.0"
    assert facts.alike() == "1 of 1"
    assert facts.db("full", "SDS") == facts.gain("full", ESD, "SDS") == NOT_RUN


def test_facts_of_scores_are_ranges_over_all_diagnosed_runs() -> None:
    settings = EXPERIMENTS["flagship"].settings
    lora, both = settings["LoRA and pool"], settings["LoRA alone"]
    known = {"null_error": 0.3, "null_error_teacher": 0.2, "gap_cosine": 0.5}
    rows = [
        _row(lora, "a red robot", 1, **known, pool_error=0.1),
        _row(lora, "a red car", 2, **known | {"null_error": 0.1}),
        _row(lora, "a red car", 1),  # not diagnosed
        _row(both, "a red car", 1, **known),
        _row(
            EXPERIMENTS["marginal"].settings["LoRA, 10 % hidden"], "a red robot", 0, gap_cosine=0.0
        ),
    ]
    facts = Facts(rows)
    assert facts.errors("flagship", "LoRA and pool") == "0.50 to 1.50"
    assert facts.errors("flagship", "LoRA and pool", over="pool_error") == "3.00"
    assert facts.scores("flagship", "null_error", "LoRA and pool") == "0.10 to 0.30"
    assert facts.scores("flagship", "null_error", "VSD") == NOT_RUN
    assert facts.cosines_of_former_loras() == "0.00", "of both branches, and trained as it was"
