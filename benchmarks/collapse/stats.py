"""Means over runs with 95 % bootstrap intervals. Knows numbers; not what they measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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

    def apart(self, other: "Interval") -> bool:
        """Whether the two intervals do not overlap."""
        return self.high < other.low or other.high < self.low


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
