"""The exact interval of a share: values worked by hand, its definition, and its coverage."""

import math

import pytest

from esd_splat.run.measure.intervals import exact_interval


@pytest.mark.parametrize("total", [1, 4, 16, 64])
def test_where_all_answers_are_alike_the_end_has_a_closed_form(total: int) -> None:
    end = 1 - 0.025 ** (1 / total)
    assert exact_interval(0, total) == (0.0, pytest.approx(end, rel=1e-12))
    assert exact_interval(total, total) == (pytest.approx(1 - end, rel=1e-12), 1.0)


def test_the_ends_are_those_that_are_printed_in_tables() -> None:
    # Clopper-Pearson, as R's binom.test(8, 16) and binom.test(2, 10, conf.level=0.9) print it.
    assert exact_interval(8, 16) == pytest.approx((0.2465, 0.7535), abs=5e-5)
    assert exact_interval(2, 10, level=0.9) == pytest.approx((0.03677, 0.50690), abs=5e-6)


@pytest.mark.parametrize("share", [0.03, 0.2, 0.5, 0.77])
@pytest.mark.parametrize("total", [4, 16])
def test_the_true_share_is_missed_at_most_as_often_as_asked(share: float, total: int) -> None:
    def probability(count: int) -> float:
        return math.comb(total, count) * share**count * (1 - share) ** (total - count)

    ends = {count: exact_interval(count, total) for count in range(total + 1)}
    below = sum(probability(count) for count, (_, high) in ends.items() if high < share)
    above = sum(probability(count) for count, (low, _) in ends.items() if low > share)
    assert below <= 0.025
    assert above <= 0.025


@pytest.mark.parametrize(("count", "total", "level"), [(3, 2, 0.9), (-1, 2, 0.9), (0, 0, 0.9)])
def test_a_count_that_cannot_be_is_refused(count: int, total: int, level: float) -> None:
    with pytest.raises(ValueError, match=f"{count} of {total}"):
        exact_interval(count, total, level)


def test_a_level_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="got 1"):
        exact_interval(0, 1, 1.0)
