"""Which Gaussian can touch which tile of the image: what makes a picture fast, and no other."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from esd_splat.scene.rasterize.base import MIN_ALPHA

_SLACK_PX = 0.01
"""Added to the extent of a footprint, so that rounding never culls what the formula draws."""


@dataclass(frozen=True)
class Splats:
    """What is left of a scene once it is projected into ``b`` views."""

    means2d: Float[Tensor, "b n 2"]
    """Centres, pixels: (0.5, 0.5) is the middle of the top left pixel."""
    covs2d: Float[Tensor, "b n 3"]
    """xx, xy, yy of the screen-space covariance, pixels squared."""
    conics: Float[Tensor, "b n 3"]
    """xx, xy, yy of its inverse."""
    log_opacities: Float[Tensor, " n"]
    colors: Float[Tensor, "b n 3"]
    depths: Float[Tensor, "b n"]
    """Camera z; smaller is nearer. Equal depths are drawn in the order of their rows."""
    drawn: Bool[Tensor, "b n"]
    """Rows to consider at all; the numbers of the others must be finite, and are not used."""


def extents(splats: Splats) -> Float[Tensor, "b n 2"]:
    """Half width and height, in pixels, of the box in which alpha reaches ``MIN_ALPHA``; 0 if none.

    A quadratic form is smallest along a line x = const where it equals ``dx^2 / cov_xx``, hence
    ``alpha >= MIN_ALPHA`` needs ``dx^2 <= 2 log(o / MIN_ALPHA) cov_xx``; the same holds for y.
    """
    reach = 2 * (splats.log_opacities - torch.log(splats.log_opacities.new_tensor(MIN_ALPHA)))
    return (reach.clamp(min=0)[:, None] * splats.covs2d[..., ::2]).sqrt()


@dataclass(frozen=True)
class Pairs:
    """Which Gaussian touches which tile: sorted by tile, and by depth within a tile."""

    rows: Int[Tensor, " p"]
    """Row of the Gaussian in its view, in a flat ``[b * n]``."""
    origins: Int[Tensor, "p 2"]
    """Column and row of the tile's top left pixel."""
    grid: tuple[int, int, int]
    """Views, rows of tiles, columns of tiles."""
    counts: list[int]
    """Number of pairs of each tile, views first, then rows, then columns."""

    def slices(self) -> Iterator[slice]:
        """The pairs of each tile in turn."""
        for end, count in zip(accumulate(self.counts), self.counts, strict=True):
            yield slice(end - count, end)


@torch.no_grad()
def pair_up(splats: Splats, width: int, height: int, tile: int) -> Pairs:
    """All pairs of a tile and a Gaussian that may reach ``MIN_ALPHA`` at one of its pixels."""
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
