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

    Args:
        values: of each prompt.
    """
    groups = [np.asarray(v, dtype=float) for v in values.values() if len(v)]
    if not groups:
        return None
    sums, counts = np.array([g.sum() for g in groups]), np.array([len(g) for g in groups])
    drawn = np.random.default_rng(0).integers(len(groups), size=(RESAMPLES, len(groups)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def measured(rows: Iterable[Mapping[str, Any]], measure: str) -> Interval | None:
    """The interval of one measure over ``rows``, which name their prompt; gaps are left out."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.get(measure) is not None:
            found.setdefault(row["prompt"], []).append(float(row[measure]))
    return interval(found)
