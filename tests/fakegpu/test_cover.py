"""The cover really covers, and what it leaves out is really refused."""

from itertools import combinations

import pytest

from esd_splat.errors import EsdSplatError
from tests.fakegpu.cases import CASES, CHOICES, FACTORS, clash, step
from tests.fakegpu.cover import cover, pairs


def test_every_pair_occurs() -> None:
    found = {pair for case in CASES for pair in combinations(case.items(), 2)}
    assert found == set(pairs(CHOICES, clash))


def test_few_cases_are_enough() -> None:
    assert len(CASES) <= 52  # every loss with every family takes 48


def test_the_cases_are_the_same_every_time() -> None:
    assert cover(CHOICES, clash) == CASES


def test_every_part_of_a_step_has_a_factor() -> None:
    from esd_splat.distill.losses import LOSSES
    from esd_splat.run.trainer import DTYPES
    from esd_splat.teacher import Memory
    from esd_splat.teacher.families import FAMILIES

    assert FACTORS["loss"].keys() == LOSSES.keys()
    assert FACTORS["precision"].keys() == DTYPES.keys()
    assert len(FACTORS["family"]) >= len(FAMILIES)
    asked = " ".join(key for values in FACTORS.values() for keys in values.values() for key in keys)
    unasked = {name for name in vars(Memory()) if f"memory.{name}=" not in asked}
    assert unasked == {"compile", "trace"}, "what is compiled or traced cannot be watched"


@pytest.mark.parametrize(
    "case",
    [
        {"family": "multi-view", "views at once": "one"},
        {"loss": "csd", "guidance": "Perp-Neg"},
        {"loss": "nfsd", "guidance": "rescaled"},
    ],
    ids=str,
)
def test_what_clashes_is_refused(case: dict[str, str]) -> None:
    assert clash(*case.items())
    with pytest.raises(EsdSplatError):
        step(case)
