"""Culling: finding the Gaussians that can touch each tile of the image.

Culling makes rendering fast and does not change the image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from esd_splat.scene.rasterize.base import MIN_ALPHA

_SLACK_PX = 0.01
"""Added to the extent of a footprint in pixels, so that rounding never culls a visible Gaussian."""


@dataclass(frozen=True)
class Splats:
    """The Gaussians of a scene, projected into ``b`` views."""

    means2d: Float[Tensor, "b n 2"]
    """Centres, in pixels: (0.5, 0.5) is the centre of the top left pixel."""
    covs2d: Float[Tensor, "b n 3"]
    """Elements xx, xy and yy of the screen-space covariances, in pixels squared."""
    conics: Float[Tensor, "b n 3"]
    """Elements xx, xy and yy of the inverse covariances."""
    log_opacities: Float[Tensor, " n"]
    colors: Float[Tensor, "b n c"]
    """RGB, or other values that are composited in the same way."""
    depths: Float[Tensor, "b n"]
    """Camera z. Smaller is nearer, and equal depths are drawn in the order of their rows."""
    drawn: Bool[Tensor, "b n"]
    """Rows that are drawn. The values of the other rows must be finite, but are not used."""


def extents(splats: Splats) -> Float[Tensor, "b n 2"]:
    """Return half the width and height, in pixels, of the box in which alpha reaches ``MIN_ALPHA``.

    Both are 0 for Gaussians that are too faint. On a line x = const, the smallest value of the
    quadratic form is ``dx^2 / cov_xx``. Therefore ``alpha >= MIN_ALPHA`` requires
    ``dx^2 <= 2 log(o / MIN_ALPHA) cov_xx``. The same holds for y.
    """
    reach = 2 * (splats.log_opacities - torch.log(splats.log_opacities.new_tensor(MIN_ALPHA)))
    return (reach.clamp(min=0)[:, None] * splats.covs2d[..., ::2]).sqrt()


@dataclass(frozen=True)
class Pairs:
    """Pairs of a Gaussian and a tile that it may touch, sorted by tile, then by depth."""

    rows: Int[Tensor, " p"]
    """Index of the Gaussian in its view, in a flat array ``[b * n]``."""
    origins: Int[Tensor, "p 2"]
    """Column and row of the top left pixel of the tile."""
    grid: tuple[int, int, int]
    """Number of views, of rows of tiles and of columns of tiles."""
    counts: list[int]
    """Number of pairs of each tile, with the tiles ordered by view, then row, then column."""

    def slices(self) -> Iterator[slice]:
        """Yield the range of pairs of each tile in turn."""
        for end, count in zip(accumulate(self.counts), self.counts, strict=True):
            yield slice(end - count, end)


@torch.no_grad()
def pair_up(splats: Splats, width: int, height: int, tile: int) -> Pairs:
    """Find all pairs of a tile and a Gaussian that may reach ``MIN_ALPHA`` in one of its pixels."""
    order = splats.depths.argsort(dim=1, stable=True)
    centres = splats.means2d.gather(1, order[..., None].expand(-1, -1, 2))
    half = extents(splats).gather(1, order[..., None].expand(-1, -1, 2))
    touched = splats.drawn & (splats.log_opacities.exp() >= MIN_ALPHA)
    half = (half * (1 + 1e-4) + _SLACK_PX).where(touched.gather(1, order)[..., None], -torch.inf)
    low, high = centres - half, centres + half

    def meets(axis: int, size: int) -> Bool[Tensor, "b t n"]:
        first = torch.arange(0, size, tile, device=low.device, dtype=low.dtype)[:, None] + 0.5
        last = (first + tile - 1).clamp(max=size - 0.5)
        return (low[:, None, :, axis] <= last) & (high[:, None, :, axis] >= first)

    in_col, in_row = meets(0, width), meets(1, height)
    touches = in_row[:, :, None] & in_col[:, None]
    view, row, col, rank = touches.nonzero(as_tuple=True)
    return Pairs(
        rows=view * len(splats.log_opacities) + order[view, rank],
        origins=torch.stack([col, row], dim=1) * tile,
        grid=(touches.shape[0], touches.shape[1], touches.shape[2]),
        counts=touches.sum(dim=-1).flatten().tolist(),
    )
