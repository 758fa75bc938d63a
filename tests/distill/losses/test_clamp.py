import pytest
import torch

from esd_splat.config import load_config
from esd_splat.distill.losses import Clamp
from esd_splat.errors import ConfigError


def test_the_limit_moves_linearly_and_holds_for_each_element() -> None:
    clamp = Clamp(start=0.5, end=2.0)
    assert [clamp.limit(p) for p in (0.0, 0.5, 1.0)] == [0.5, 1.25, 2.0]
    gradient = torch.tensor([-9.0, -1.0, 0.1, 1.3]).view(1, 4, 1, 1)
    first, middle = clamp.apply(gradient, 0.0), clamp.apply(gradient, 0.5)
    assert first.flatten().tolist() == pytest.approx([-0.5, -0.5, 0.1, 0.5])
    assert middle.flatten().tolist() == pytest.approx([-1.25, -1.0, 0.1, 1.25])


def test_it_is_off_unless_asked_for() -> None:
    gradient = torch.full((1, 4, 2, 2), 1e6)
    assert Clamp().limit(0.3) is None
    assert Clamp().apply(gradient, 0.3) is gradient


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("clamp.start=1", "clamp.end: must be given together with start, or neither of them"),
        ("clamp.end=1", "clamp.start: must be given together with end, or neither of them"),
    ],
)
def test_half_a_limit_is_refused(override: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["prompt=a", override])
    assert [f"{p.key}: {p.message}" for p in caught.value.problems] == [problem]


def test_limits_of_nothing_are_refused_together() -> None:
    with pytest.raises(ValueError, match=r"start: must be above 0, got 0\nend: .*got -1"):
        Clamp(start=0.0, end=-1.0)
