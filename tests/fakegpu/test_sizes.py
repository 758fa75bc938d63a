"""The step at real size: what it costs, and the memory that it takes at most."""

import pytest

from tests.fakegpu.sizes import step_at_size
from tests.fakegpu.table import check_memory
from tests.fakegpu.test_steps import check


def check_size(name: str) -> None:
    """Check a step of ``name``, a family and keys of the config, against the table."""
    shape, *keys = name.split()
    result = step_at_size(shape, *keys)
    check(result)
    check_memory(name, result.counts.peak)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-sd", "sd15"])
def test_memory_is_that_of_the_table(name: str) -> None:
    """The other families of the table take minutes: ``python -m tests.fakegpu``."""
    check_size(name)
