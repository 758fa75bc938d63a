"""Exact intervals of shares: how far a count of yes and no may be from the truth."""

import math


def exact_interval(count: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share, of which ``count`` of ``total`` trials were a yes.

    At each end, the binomial probability of a count as extreme as this one is half of what
    ``level`` leaves (Clopper and Pearson 1934).

    Args:
        count: number of trials with a yes, 0 to ``total``.
        total: number of independent trials, at least 1.
        level: how often the interval must contain the true share, above 0 and below 1.

    Returns:
        The two ends, each in [0, 1].

    Raises:
        ValueError: an argument is outside of its range.

    Example:
        >>> [round(end, 3) for end in exact_interval(0, 16)]
        [0.0, 0.206]
    """
    if not 0 <= count <= total or total < 1:
        raise ValueError(f"count must be 0 to total, and total at least 1, got {count} of {total}")
    if not 0 < level < 1:
        raise ValueError(f"level must be above 0 and below 1, got {level:g}")
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else 1 - _share(total - count, total, tail)
    high = 1.0 if count == total else _share(count, total, tail)
    return low, high


def _share(count: int, total: int, tail: float) -> float:
    """The share at which at most ``count`` of ``total`` has probability ``tail``, by bisection."""
    low, high = 0.0, 1.0
    # Each halving gains one bit. 50 of them never end at 1, whose logarithm is asked for.
    for _ in range(50):
        middle = (low + high) / 2
        if _at_most(count, total, middle) > tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(count: int, total: int, share: float) -> float:
    """The binomial probability of at most ``count``. ``share`` is above 0 and below 1."""
    yes, no = math.log(share), math.log1p(-share)
    return math.fsum(
        math.exp(_log_choices(total, k) + k * yes + (total - k) * no) for k in range(count + 1)
    )


def _log_choices(total: int, count: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1)
