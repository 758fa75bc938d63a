"""The step at real size: what it costs, and the memory that it takes at most."""

import pytest

from tests.fakegpu.sizes import step_at_size
from tests.fakegpu.table import TABLE, check_memory
from tests.fakegpu.test_steps import check

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", TABLE["peak"])
def test_memory_is_that_of_the_table(name: str) -> None:
    """``name`` is a family, and keys of the config."""
    shape, *keys = name.split()
    result = step_at_size(shape, *keys)
    check(result)
    check_memory(name, result.counts.peak)
