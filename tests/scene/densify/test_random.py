import math

import pytest
import torch

from esd_splat.scene.densify.random import NORMAL_MEAN, NORMAL_SCALE, normals, philox4x32


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (" ".join(["ffffffff"] * 4), "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_answers(counter: str, key: str, expected: str) -> None:
    """The answers are from ``kat_vectors`` of Random123, lines ``philox4x32 10``."""
    low, high = _words(key)
    assert philox4x32(torch.tensor([_words(counter)]), (low, high))[0].tolist() == _words(expected)


def test_normals_are_the_sum_of_eight_halves_of_one_block() -> None:
    """This is the definition that kernels in other languages have to reproduce."""
    seed, step, row, copy, axis = 0x1122334455667788, 70, 123456, 1, 2
    counter = torch.tensor([[step, row, copy, axis]])
    words = philox4x32(counter, (0x55667788, 0x11223344))[0].tolist()
    total = sum((word >> 16) + (word & 0xFFFF) for word in words)
    expected = torch.tensor(total - NORMAL_MEAN, dtype=torch.float32) * torch.tensor(NORMAL_SCALE)
    assert normals(seed, step, torch.tensor([row]), copy)[0, axis] == expected


def test_constants_are_the_moments_of_the_sum() -> None:
    levels = 65536
    assert 8 * (levels - 1) / 2 == NORMAL_MEAN
    scale = 1 / math.sqrt(8 * (levels**2 - 1) / 12)
    assert torch.tensor(scale, dtype=torch.float32).item() == NORMAL_SCALE


def test_moments() -> None:
    """Mean 0, variance 1, kurtosis 3 - 1.2 / 8 and no correlation, within 4 standard errors."""
    draws = normals(5, 100, torch.arange(100_000), 0).double()
    error = 4 / math.sqrt(len(draws))
    assert draws.mean(0).abs().max() < error
    assert (draws.var(0) - 1).abs().max() < 1.4 * error
    assert (draws.pow(4).mean(0) - 2.85).abs().max() < 9 * error
    off_diagonal = torch.corrcoef(draws.T) - torch.eye(3, dtype=torch.float64)
    assert off_diagonal.abs().max() < error
    assert torch.corrcoef(torch.stack([draws[:-1, 0], draws[1:, 0]]))[0, 1].abs() < error


def test_a_number_depends_on_its_own_counter_only() -> None:
    rows = torch.tensor([7, 3, 900_000, 3])
    drawn = normals(1, 2, rows, 0)
    alone = torch.cat([normals(1, 2, row[None], 0) for row in rows])
    assert torch.equal(drawn, alone)
    assert torch.equal(drawn[1], drawn[3])


@pytest.mark.parametrize("other", [(2, 2, 0), (1 + 2**32, 2, 0), (1, 3, 0), (1, 2, 1)])
def test_every_part_of_the_key_and_counter_matters(other: tuple[int, int, int]) -> None:
    rows = torch.arange(8)
    seed, step, copy = other
    assert not (normals(1, 2, rows, 0) == normals(seed, step, rows, copy)).any()


def test_thread_count_changes_nothing() -> None:
    before = torch.get_num_threads()
    rows = torch.arange(50_000)
    try:
        torch.set_num_threads(1)
        one = normals(9, 9, rows, 1)
        torch.set_num_threads(2)
        two = normals(9, 9, rows, 1)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, two)


def test_no_rows() -> None:
    assert normals(0, 1, torch.arange(0), 0).shape == (0, 3)


def _words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]
