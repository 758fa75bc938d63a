"""Means over runs and shares of prompts, with 95 % intervals. Knows no measure by name."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esd_splat.run.measure.intervals import exact_interval

RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """A mean and where 95 % of its bootstrap lies."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Share:
    """How many of so many prompts are a yes. Its interval is exact, with prompts as trials."""

    count: int
    total: int

    @property
    def ends(self) -> tuple[float, float]:
        """The 95 % interval of Clopper and Pearson, or [0, 1] if there are no prompts."""
        return exact_interval(self.count, self.total) if self.total else (0.0, 1.0)

    def __str__(self) -> str:
        low, high = self.ends
        return f"{self.count} of {self.total} [{low:.3g}, {high:.3g}]"


@dataclass(frozen=True)
class Signs:
    """On how many prompts one setting has more of something than another, and on how many less."""

    more: int
    less: int
    ties: int = 0

    @property
    def p(self) -> float:
        """The two-sided p-value of the exact sign test. Prompts with a tie are left out.

        For a yes or no with one run for each prompt this is McNemar's exact test.
        """
        count = self.more + self.less
        tail = sum(math.comb(count, k) for k in range(min(self.more, self.less) + 1))
        return min(1.0, 2 * tail / 2**count)

    def __str__(self) -> str:
        if self == Signs(0, 0):
            return "no prompts (not run)"
        p = f"p = {self.p:.2g}" if self.p >= 0.001 else "p < 0.001"
        return f"{self.more} against {self.less} prompts ({p})"


def interval(values: Mapping[str, Sequence[float]]) -> Interval | None:
    """Mean of all values and its interval, or ``None`` if there are none.

    Prompts are resampled, each with all of its values, because runs of one prompt that differ by
    the seed alone fail together.

    Args:
        values: those of each prompt.
    """
    groups = [v for v in values.values() if len(v)]
    if not groups:
        return None
    average = float(np.mean([value for group in groups for value in group]))
    sums, counts = np.array([sum(g) for g in groups]), np.array([len(g) for g in groups])
    drawn = np.random.default_rng(0).integers(len(groups), size=(RESAMPLES, len(groups)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(average, float(low), float(high))


def share(answers: Mapping[str, Sequence[bool]]) -> Share:
    """The share of prompts that are a yes. A prompt is one if at least half of its answers are.

    Args:
        answers: those of each prompt.
    """
    groups = [group for group in answers.values() if len(group)]
    return Share(sum(2 * sum(group) >= len(group) for group in groups), len(groups))


def signs(first: Mapping[str, Sequence[float]], second: Mapping[str, Sequence[float]]) -> Signs:
    """Compare the means of two settings, prompt by prompt.

    Args:
        first: the values of each prompt.
        second: the same, for the same prompts and seeds.
    """
    apart = [np.sign(np.mean(first[prompt]) - np.mean(second[prompt])) for prompt in first]
    return Signs(apart.count(1), apart.count(-1), apart.count(0))


def by_prompt(rows: Iterable[Mapping[str, Any]], measure: str) -> dict[str, list[Any]]:
    """The values of one measure, of each prompt; rows without it are left out."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        if row.get(measure) is not None:
            found.setdefault(row["prompt"], []).append(row[measure])
    return found


def measured(rows: Iterable[Mapping[str, Any]], measure: str) -> Interval | None:
    """The interval of one measure over ``rows``, which name their prompt; gaps are left out."""
    return interval(by_prompt(rows, measure))
