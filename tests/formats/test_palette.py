import numpy as np
import pytest
import torch

from esd_splat.formats.palette import codebook, nearest, palette


def _rows(n: int, seed: int = 0) -> torch.Tensor:
    """Coefficients like those of an object: smooth over its surface, plus noise."""
    g = torch.Generator().manual_seed(seed)
    normal = torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=1)
    smooth = torch.cat([normal, normal**2, (4 * normal).sin()], dim=1)
    noise = 0.05 * torch.randn(n, 45, generator=g)
    return 0.15 * smooth @ torch.randn(9, 45, generator=g) + noise


def _lloyd(rows: torch.Tensor, count: int, rounds: int) -> torch.Tensor:
    """The mean squared distance to the nearest k-means centre."""
    centres = rows[:count].clone()
    for _ in range(rounds):
        labels = torch.cdist(rows, centres).argmin(dim=1)
        for index in labels.unique():
            centres[index] = rows[labels == index].mean(dim=0)
    return torch.cdist(rows, centres).amin(dim=1).square().mean()


def test_a_set_stands_for_its_rows_by_their_mean() -> None:
    rows = _rows(500)
    means, labels = palette(rows, 32)
    assert means.shape == (32, 45)
    for index in range(32):
        torch.testing.assert_close(means[index], rows[labels == index].mean(dim=0))


def test_a_palette_is_nearly_as_close_as_k_means() -> None:
    """Within 10 % in root mean square, while a random choice of rows is much worse."""
    rows = _rows(3000)
    means, labels = palette(rows, 200)
    ours = (rows - means[labels]).square().sum(dim=1).mean()
    best = _lloyd(rows, 200, rounds=8)
    assert ours.sqrt() < 1.1 * best.sqrt()
    assert _lloyd(rows, 200, rounds=0).sqrt() > 1.3 * best.sqrt()


@pytest.mark.parametrize("count", [1, 5, 6, 64])
def test_few_different_rows_are_kept_exactly(count: int) -> None:
    different = torch.arange(15.0).view(5, 3) ** 2
    rows = different[torch.arange(100) % 5]
    means, labels = palette(rows, count)
    assert len(means) == min(count, 5)
    if count >= 5:
        assert torch.equal(means[labels], rows)


@pytest.mark.parametrize("kinds", [1, 7])
def test_rows_that_are_alike_share_one_set(kinds: int) -> None:
    """Even if the mean of equal rows is rounded and so differs from them."""
    different = 0.1 * torch.randn(kinds, 45, generator=torch.Generator().manual_seed(3))
    rows = different[torch.arange(999) % kinds]
    assert (rows.mean(dim=0) != rows[0]).any()
    means, labels = palette(rows, 500)
    assert len(means) == kinds
    torch.testing.assert_close(means[labels], rows)


def test_outliers_take_no_more_than_their_own() -> None:
    rows = torch.cat([_rows(1000), torch.tensor([[1e6] * 45, [-1e6] * 45])])
    means, labels = palette(rows, 100)
    off = (rows - means[labels])[:1000].square().mean().sqrt()
    alone, alone_labels = palette(rows[:1000], 98)
    assert off < 1.05 * (rows[:1000] - alone[alone_labels]).square().mean().sqrt()


def test_a_codebook_rises_and_gives_the_nearest() -> None:
    values = np.random.default_rng(0).normal(size=(1000, 3)) ** 3
    book = codebook(values)
    assert book.shape == (256,)
    assert (np.diff(book) >= 0).all()
    index = nearest(book, values)
    assert index.shape == values.shape
    closest = np.abs(values[..., None] - book).min(axis=-1)
    assert np.array_equal(np.abs(values - book[index]), closest)


def test_a_codebook_is_where_the_values_are() -> None:
    """On long tails, its root mean square error is less than half that of even steps."""
    values = np.random.default_rng(0).normal(size=20000) ** 3
    book = codebook(values)
    off = np.sqrt(np.mean((values - book[nearest(book, values)]) ** 2))
    assert off < 0.5 * np.ptp(values) / 255 / np.sqrt(12)


@pytest.mark.parametrize("count", [1, 7, 255])
def test_a_codebook_of_few_values_has_them_exactly(count: int) -> None:
    values = np.arange(count) / 8
    book = codebook(np.repeat(values, 3))
    assert book.shape == (256,)
    assert np.array_equal(np.unique(book), values)
