"""Means over runs with 95 % bootstrap intervals. Knows numbers; not what they measure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """A mean and where 95 % of its bootstrap lies."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def interval(values: Mapping[str, Sequence[float]]) -> Interval | None:
    """Mean of all values and its interval, or ``None`` if there are none.

    Prompts are resampled, each with all of its values: runs of one prompt that differ by the seed
    alone fail together, and are not as many independent trials as they look.

    A yes or no that is the same in all runs has nothing to resample. Then it is the exact binomial
    interval (Clopper and Pearson 1934, at its ends), as if runs were independent.

    Args:
        values: of each prompt; ``bool`` where they are a yes or no.
    """
    groups = [v for v in values.values() if len(v)]
    if not groups:
        return None
    runs = [value for group in groups for value in group]
    average = float(np.mean(runs))
    if isinstance(runs[0], bool) and average in (0.0, 1.0):
        unseen = 1 - 0.025 ** (1 / len(runs))
        return Interval(average, average * (1 - unseen), average + (1 - average) * unseen)
    sums, counts = np.array([sum(g) for g in groups]), np.array([len(g) for g in groups])
    drawn = np.random.default_rng(0).integers(len(groups), size=(RESAMPLES, len(groups)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(average, float(low), float(high))


def measured(rows: Iterable[Mapping[str, Any]], measure: str) -> Interval | None:
    """The interval of one measure over ``rows``, which name their prompt; gaps are left out."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.get(measure) is not None:
            found.setdefault(row["prompt"], []).append(row[measure])
    return interval(found)
