"""Few combinations of many choices in which every pair of choices occurs (pairwise testing)."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from itertools import combinations, product

Choice = tuple[str, str]
"""A factor and one of its values."""
Clash = Callable[[Choice, Choice], bool]


def pairs(factors: Mapping[str, Sequence[str]], clash: Clash) -> Iterator[tuple[Choice, Choice]]:
    """Return all pairs of choices for two different factors that do not clash."""
    for one, other in combinations(factors, 2):
        for values in product(factors[one], factors[other]):
            pair = (one, values[0]), (other, values[1])
            if not clash(*pair):
                yield pair


def cover(factors: Mapping[str, Sequence[str]], clash: Clash) -> list[dict[str, str]]:
    """Return cases, each with one value for every factor, in which each of ``pairs`` occurs.

    The same arguments give the same cases. Each case starts from the first pair that is not covered
    yet, and takes for each other factor the value that covers the most further pairs. The first
    value of a factor must not clash with anything, so that every case can be completed.
    """
    missing = dict.fromkeys(pairs(factors, clash))
    cases = []
    while missing:
        case = dict(next(iter(missing)))
        for factor in factors:
            if factor in case:
                continue
            free = [v for v in factors[factor] if not _clashes((factor, v), case, clash)]
            case[factor] = max(free, key=lambda v: _gain((factor, v), case, missing))
        for pair in combinations([(factor, case[factor]) for factor in factors], 2):
            missing.pop(pair, None)
        cases.append({factor: case[factor] for factor in factors})
    return cases


def _clashes(choice: Choice, case: Mapping[str, str], clash: Clash) -> bool:
    return any(clash(choice, made) or clash(made, choice) for made in case.items())


def _gain(choice: Choice, case: Mapping[str, str], missing: Container[object]) -> int:
    """Return how many missing pairs ``choice`` makes with the choices of ``case``."""
    return sum((choice, made) in missing or (made, choice) in missing for made in case.items())
