"""Compositing, compared with the formula as a loop over pixels and Gaussians."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from esd_splat.scene.rasterize.base import MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE
from esd_splat.scene.rasterize.culling import Splats, extents, pair_up
from esd_splat.scene.rasterize.tiles import composite, median_depths

F64 = torch.float64


def _splats(n: int, size: int, seed: int, b: int = 1, opaque: float = 0.0) -> Splats:
    """Ellipses of 0.6 to 6 pixels in and around an image of ``size``, some nearly opaque."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=F64, generator=g)

    angle, sigma = math.pi * rand(b, n), 0.6 * 10 ** rand(b, n, 2)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(b, n, 2, 2)
    cov = turn @ torch.diag_embed(sigma**2) @ turn.mT
    opacity = torch.where(rand(n) < opaque, 0.9999, 0.002 + 0.998 * rand(n) ** 2)
    return Splats(
        means2d=rand(b, n, 2) * (size + 8) - 4,
        covs2d=cov.flatten(2)[..., [0, 1, 3]],
        conics=torch.linalg.inv(cov).flatten(2)[..., [0, 1, 3]],
        log_opacities=opacity.log(),
        colors=1.5 * rand(b, n, 3),
        depths=(rand(b, n) * 20).round(),  # with ties
        drawn=rand(b, n) < 0.9,
    )


def _by_the_formula(splats: Splats, view: int, width: int, height: int) -> tuple[Tensor, ...]:
    means, conics = splats.means2d[view].tolist(), splats.conics[view].tolist()
    levels, colors = splats.log_opacities.tolist(), splats.colors[view].tolist()
    depths, drawn = splats.depths[view].tolist(), splats.drawn[view].tolist()
    order = sorted((i for i in range(len(depths)) if drawn[i]), key=lambda i: (depths[i], i))
    rgb, alphas = torch.zeros(3, height, width, dtype=F64), torch.zeros(height, width, dtype=F64)
    medians = torch.zeros_like(alphas)
    for row in range(height):
        for col in range(width):
            through, seen = 1.0, [0.0, 0.0, 0.0]
            for i in order:
                dx, dy = col + 0.5 - means[i][0], row + 0.5 - means[i][1]
                xx, xy, yy = conics[i]
                power = -0.5 * (xx * dx * dx + 2 * xy * dx * dy + yy * dy * dy)
                alpha = min(MAX_ALPHA, math.exp(levels[i] + power))
                if alpha < MIN_ALPHA:
                    continue
                if through * (1 - alpha) <= MIN_TRANSMITTANCE:
                    break
                seen = [s + alpha * through * c for s, c in zip(seen, colors[i], strict=True)]
                if through > 0.5 >= through * (1 - alpha):
                    medians[row, col] = depths[i]
                through *= 1 - alpha
            rgb[:, row, col] = torch.tensor(seen, dtype=F64)
            alphas[row, col] = 1 - through
    return rgb, alphas, medians


@pytest.mark.parametrize(("seed", "opaque"), [(0, 0.0), (1, 0.5), (2, 1.0)])
def test_pixels_follow_the_formula(seed: int, opaque: float) -> None:
    """Two views of 37 x 22 pixels, with incomplete tiles at the edges and pixels that end early."""
    splats = _splats(60, 30, seed, b=2, opaque=opaque)
    rgb, alphas = composite(splats, 37, 22)
    screen = splats.means2d, splats.conics, splats.log_opacities, splats.depths
    medians = median_depths(*screen, pair_up(splats, 37, 22, 8), 37, 22, 8)
    assert (medians == 0).any()
    assert (medians > 0).any()
    for view in range(2):
        expected_rgb, expected_alphas, expected = _by_the_formula(splats, view, 37, 22)
        assert torch.equal(medians[view], expected)
        torch.testing.assert_close(rgb[view], expected_rgb, rtol=0, atol=1e-12)
        torch.testing.assert_close(alphas[view], expected_alphas, rtol=0, atol=1e-12)
    if opaque:
        assert alphas.max() > 1 - 1.1e-3  # the cap was reached, and pixels did end


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 50),
    tile=st.sampled_from([1, 4, 7, 16]),
    dtype=st.sampled_from([torch.float32, F64]),
)
@settings(max_examples=40, deadline=None)
def test_culling_changes_nothing(seed: int, size: int, tile: int, dtype: torch.dtype) -> None:
    """A single tile that holds the whole image and all Gaussians gives the same image."""
    tile = max(tile, size // 8)
    splats = _splats(30, size, seed, opaque=0.2)
    splats = Splats(
        **{k: v.to(dtype) if v.is_floating_point() else v for k, v in vars(splats).items()}
    )
    culled, whole = composite(splats, size, size, tile), composite(splats, size, size, 64)
    wide = Splats(**{**vars(splats), "covs2d": splats.covs2d * 1e6})
    for a, b, c in zip(culled, whole, composite(wide, size, size, 64), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12 if dtype == F64 else 2e-6)
        torch.testing.assert_close(b, c, rtol=0, atol=1e-12 if dtype == F64 else 2e-6)


def test_extents_bound_where_alpha_reaches_the_cut() -> None:
    """On a fine grid, alpha never reaches the cut outside the box, and the box is tight."""
    splats = _splats(20, 10, seed=3)
    grid = torch.linspace(-30, 30, 601, dtype=F64)
    for (xx, xy, yy), level, (half_x, half_y) in zip(
        splats.conics[0], splats.log_opacities, extents(splats)[0], strict=True
    ):
        dx, dy = grid[None, :], grid[:, None]
        seen = level - 0.5 * (xx * dx * dx + 2 * xy * dx * dy + yy * dy * dy) >= math.log(MIN_ALPHA)
        if seen.any():
            reach_x, reach_y = grid[seen.any(dim=0)].max(), grid[seen.any(dim=1)].max()
            assert reach_x <= half_x < reach_x + 0.2
            assert reach_y <= half_y < reach_y + 0.2
        else:
            assert half_x < 0.2


def test_gradients_are_those_of_the_formula() -> None:
    """Autograd through a simple dense version agrees, with caps, ended pixels and many tiles."""
    splats = _splats(50, 40, seed=7, b=2, opaque=0.4)
    names = ("means2d", "conics", "log_opacities", "colors")
    inputs = {k: getattr(splats, k).clone().requires_grad_() for k in names}
    splats = Splats(**{**vars(splats), **inputs})
    g = torch.Generator().manual_seed(0)
    w_rgb = torch.randn(2, 3, 36, 41, dtype=F64, generator=g)
    w_alpha = torch.randn(2, 36, 41, dtype=F64, generator=g)
    grads = []
    for draw in (composite, _dense):
        rgb, alphas = draw(splats, 41, 36)
        loss = (rgb * w_rgb).sum() + (alphas * w_alpha).sum()
        grads.append(torch.autograd.grad(loss, list(inputs.values())))
    for ours, plain in zip(*grads, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


def _dense(splats: Splats, width: int, height: int) -> tuple[Tensor, Tensor]:
    rows, cols = torch.arange(height, dtype=F64) + 0.5, torch.arange(width, dtype=F64) + 0.5
    views = []
    for v in range(len(splats.depths)):
        order = splats.depths[v].argsort(stable=True)
        order = order[splats.drawn[v][order]]
        dx = cols - splats.means2d[v, order, 0, None, None]
        dy = rows[:, None] - splats.means2d[v, order, 1, None, None]
        xx, xy, yy = splats.conics[v, order].T[:, :, None, None]
        power = -0.5 * (xx * dx * dx + 2 * xy * dx * dy + yy * dy * dy)
        alpha = (splats.log_opacities[order, None, None] + power).exp()
        alpha = torch.where(alpha < MIN_ALPHA, 0.0, alpha.clamp(max=MAX_ALPHA))
        after = torch.cumprod(1 - alpha, dim=0)
        before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
        weight = torch.where(after > MIN_TRANSMITTANCE, alpha * before, 0.0)
        rgb = torch.einsum("nhw,nc->chw", weight, splats.colors[v, order])
        views.append((rgb, weight.sum(0)))
    rgb, alphas = zip(*views, strict=True)
    return torch.stack(rgb), torch.stack(alphas)


def test_a_second_derivative_is_refused() -> None:
    splats = _splats(3, 8, seed=0)
    means = splats.means2d.clone().requires_grad_()
    rgb, _ = composite(Splats(**{**vars(splats), "means2d": means}), 8, 8)
    (grad,) = torch.autograd.grad(rgb.square().sum(), means, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
