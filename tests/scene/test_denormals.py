import sys

import pytest

from esd_splat.scene.denormals import denormals_flushed

SMALLEST = sys.float_info.min


def test_denormals_are_zero_inside_and_the_callers_after() -> None:
    with denormals_flushed():
        assert SMALLEST / 2 == 0
        with pytest.raises(ZeroDivisionError), denormals_flushed():
            _ = 1 / (SMALLEST / 2)
        assert SMALLEST / 2 == 0, "as the outer one wants it"
    assert SMALLEST / 2 > 0
