import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp

from esd_splat.formats.packing import (
    from_smallest_three,
    levels,
    logit_of_byte,
    morton_order,
    smallest_three,
    unit_quats,
)
from tests.formats.scenes import radians_apart

component = st.floats(-10, 10).filter(lambda v: v == 0 or abs(v) > 1e-3)


@given(hnp.arrays(np.float64, (5, 4), elements=component), st.integers(0, 3))
def test_three_components_tell_the_rotation(quats: np.ndarray, largest: int) -> None:
    """The three are within sqrt(1/2) of zero, even if several components are equally large."""
    quats[:, largest] = 10.0
    index, three = smallest_three(quats)
    assert np.abs(three).max() <= 0.5**0.5 + 1e-12
    back = from_smallest_three(index, three)
    assert radians_apart(torch.from_numpy(back), torch.from_numpy(quats)).max() < 1e-6
    assert (np.take_along_axis(back, index[:, None], 1) >= 0.5 - 1e-12).all()


def test_by_hand() -> None:
    index, three = smallest_three(np.array([[0.0, 0.0, -2.0, 0.0], [-3.0, 0.0, 0.0, 4.0]]))
    assert index.tolist() == [2, 3]
    assert three.tolist() == [[0, 0, 0], pytest.approx([-0.6, 0, 0])]


def test_what_rounding_made_too_long_stays_real() -> None:
    assert from_smallest_three(np.array([1]), np.array([[0.7, 0.7, 0.7]]))[0, 1] == 0


@pytest.mark.parametrize("length", [1e-38, 1e-20, 1.0, 1e20, 1e38])
def test_quaternions_of_any_length_become_unit(length: float) -> None:
    unit = unit_quats(torch.tensor([[0.6, 0.0, -0.8, 0.0]]) * length)
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.0, -0.8, 0.0]]))


def test_levels_round_to_nearest_and_clamp() -> None:
    values = np.array([-0.1, 0.0, 0.49, 0.51, 9.49, 9.51, 10.0, 99.0]) / 10
    assert levels(values, 10).tolist() == [0, 0, 0, 1, 9, 10, 10, 10]


def test_opacity_bytes_have_finite_logits() -> None:
    logits = logit_of_byte(np.arange(256))
    assert np.isfinite(logits).all()
    assert (np.diff(logits) > 0).all()
    opacities = 1 / (1 + np.exp(-logits))
    assert np.abs(opacities - np.arange(256) / 255).max() <= 0.25 / 255 + 1e-12
    assert opacities[0] < 1 / 255, "what is not drawn must not be after it was read"


def test_neighbours_in_the_file_are_neighbours_in_space() -> None:
    means = torch.rand(4096, 3, generator=torch.Generator().manual_seed(0))
    order = morton_order(means)
    assert torch.equal(order.sort().values, torch.arange(4096))
    steps = means[order].diff(dim=0).norm(dim=1).mean()
    assert steps < means.diff(dim=0).norm(dim=1).mean() / 5
