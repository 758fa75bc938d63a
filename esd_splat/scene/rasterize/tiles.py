"""Front-to-back compositing of projected Gaussians in torch, one small tile of the image at a time.

For a pixel p and the Gaussians from near to far (Kerbl et al., arXiv:2308.04079)::

    alpha_i = min(MAX_ALPHA, o_i exp(-(p - m_i)^T conic_i (p - m_i) / 2)), 0 if below MIN_ALPHA
    T_i     = (1 - alpha_i) T_{i-1},  T_0 = 1
    rgb     = sum_i alpha_i T_{i-1} c_i   over the i with T_i > MIN_TRANSMITTANCE

The backward pass is written by hand, as autograd would store ten intermediate values per pixel and
Gaussian.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from esd_splat.scene.rasterize.base import MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE
from esd_splat.scene.rasterize.culling import Pairs, Splats, pair_up

TILE = 16
"""Side of a tile, in pixels. It affects the speed and not the image. Of 8, 16 and 32, 16 is the
fastest."""


def composite(
    splats: Splats, width: int, height: int, tile: int = TILE
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b h w"]]:
    """Return the colours (premultiplied, over black) and the opacities of all pixels.

    The result is differentiable once, with respect to all float fields of ``splats`` except
    ``covs2d`` and ``depths``, which only determine the culling and the order.
    """
    pairs = pair_up(splats, width, height, tile)
    tiles: Tensor = _Composite.apply(
        splats.means2d, splats.conics, splats.log_opacities, splats.colors, pairs, tile
    )
    planes = _untile(tiles, pairs, width, height, tile)
    return planes[:, :-1], planes[:, -1]


@torch.no_grad()
def median_depths(
    means2d: Float[Tensor, "b n 2"],
    conics: Float[Tensor, "b n 3"],
    log_opacities: Float[Tensor, " n"],
    depths: Float[Tensor, "b n"],
    pairs: Pairs,
    width: int,
    height: int,
    tile: int,
) -> Float[Tensor, "b h w"]:
    """Return the depths at which the transmittances of all pixels fall to 1/2 or less, else 0."""
    footprints = _Footprints.gather(means2d, conics, log_opacities, pairs, tile)
    z = depths.flatten()[pairs.rows]
    medians = means2d.new_zeros(len(pairs.counts), 1, tile * tile)
    workspace = means2d.new_empty(2, tile * tile * max(pairs.counts, default=0))
    for pixels, here in zip(medians[:, 0], pairs.slices(), strict=True):
        if here.start < here.stop:
            alpha, rest = _carve(workspace, tile * tile, here)
            footprints.alphas(here, out=alpha)
            torch.neg(alpha, out=rest).add_(1)
            nearer = (rest.cumprod(dim=-1) > 0.5).sum(dim=-1)
            pixels.copy_(torch.nn.functional.pad(z[here], (0, 1))[nearer])
    return _untile(medians, pairs, width, height, tile)[:, 0]


def _untile(
    tiles: Float[Tensor, "tiles c pixels"], pairs: Pairs, width: int, height: int, tile: int
) -> Float[Tensor, "b c h w"]:
    """Join tiles to images."""
    b, rows, cols = pairs.grid
    c = tiles.shape[1]
    planes = tiles.view(b, rows, cols, c, tile, tile).permute(0, 3, 1, 4, 2, 5)
    return planes.reshape(b, c, rows * tile, cols * tile)[..., :height, :width]


class _Composite(torch.autograd.Function):
    """Computes ``[tiles, c + 1, tile * tile]``: premultiplied colours and opacity by tile.

    The work arrays of a tile have shape ``[tile * tile, pairs]``. This gives long contiguous inner
    loops on arrays that fit into the processor's cache, and all tiles use the same memory. The
    backward pass computes the arrays again instead of storing them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,
        conics: Tensor,
        log_opacities: Tensor,
        colors: Tensor,
        pairs: Pairs,
        tile: int,
    ) -> Tensor:
        footprints = _Footprints.gather(means2d, conics, log_opacities, pairs, tile)
        paint = _paint(colors, pairs)
        planes = means2d.new_zeros(len(pairs.counts), len(paint), tile * tile)
        workspace = means2d.new_empty(3, tile * tile * max(pairs.counts, default=0))
        for pixels, here in zip(planes, pairs.slices(), strict=True):
            if here.start < here.stop:
                alpha, rest, weight = _carve(workspace, tile * tile, here)
                footprints.alphas(here, out=alpha)
                _weights(alpha, rest, out=weight)
                torch.mm(paint[:, here], weight.mT, out=pixels)
        ctx.save_for_backward(means2d, conics, log_opacities, colors)
        ctx.pairs, ctx.tile = pairs, tile
        return planes

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        means2d, conics, log_opacities, colors = ctx.saved_tensors
        pairs: Pairs = ctx.pairs
        tile: int = ctx.tile
        footprints = _Footprints.gather(means2d, conics, log_opacities, pairs, tile)
        paint = _paint(colors, pairs)
        d_paint, moments = torch.zeros_like(paint), paint.new_zeros(6, paint.shape[1])
        monomials = footprints.monomials()
        workspace = means2d.new_empty(5, tile * tile * max(pairs.counts, default=0))
        for grad, here in zip(grad_outputs[0], pairs.slices(), strict=True):
            if here.start < here.stop:
                alpha, rest, weight, gain, slope = _carve(workspace, tile * tile, here)
                footprints.alphas(here, out=alpha)
                _weights(alpha, rest, out=weight)
                d_paint[:, here] = grad @ weight
                torch.mm(grad.mT, paint[:, here], out=gain).mul_(weight)
                _slopes(alpha, rest, gain, out=slope)
                moments[:, here] = monomials @ slope

        d_means2d, d_conics, d_log_opacities = footprints.gradients(moments)
        b, n = means2d.shape[:2]

        def per_row(grads: Tensor) -> Tensor:
            """Sum over tiles: ``[c p]`` to ``[b n c]``."""
            total = grads.new_zeros(b * n, len(grads)).index_add_(0, pairs.rows, grads.mT)
            return total.view(b, n, len(grads))

        return (
            per_row(d_means2d),
            per_row(d_conics),
            per_row(d_log_opacities[None]).sum(dim=0).squeeze(-1),
            per_row(d_paint[:-1]),
            None,
            None,
        )


@dataclass(frozen=True)
class _Footprints:
    """The exponents of all pairs, prepared for evaluation at the pixels of their tiles.

    With ``d = p - m`` in pixels, ``log2 alpha = (l - A dx^2 / 2) + dy (-B dx - C dy / 2)``. Terms
    that depend on only one of dx and dy are computed once per column or row instead of per pixel.
    """

    conics: Float[Tensor, "3 p"]
    dx: Float[Tensor, "t p"]
    """Distance from the mean to the centre of each column of the tile."""
    dy: Float[Tensor, "t p"]
    """Distance from the mean to the centre of each row of the tile."""
    by_column: Float[Tensor, "t p"]
    """``l - A dx^2 / 2``."""
    slant: Float[Tensor, "t p"]
    """``-B dx``."""
    by_row: Float[Tensor, "t p"]
    """``-C dy / 2``."""

    @classmethod
    def gather(
        cls, means2d: Tensor, conics: Tensor, log_opacities: Tensor, pairs: Pairs, tile: int
    ) -> "_Footprints":
        """Build the exponents of ``pairs`` from per-view arrays ``[b n ...]``."""
        steps = torch.arange(tile, dtype=means2d.dtype, device=means2d.device)[:, None] + 0.5
        to_tile = (pairs.origins - means2d.flatten(0, 1)[pairs.rows]).mT
        dx, dy = (steps + offset for offset in to_tile)
        form = conics.flatten(0, 1)[pairs.rows].mT.contiguous()
        # exp2 is twice as fast as exp, and unlike exp it is not slow where alpha underflows.
        A, B, C = math.log2(math.e) * form
        level = math.log2(math.e) * log_opacities[pairs.rows % len(log_opacities)]
        return cls(form, dx, dy, level - 0.5 * A * dx * dx, -B * dx, -0.5 * C * dy)

    def alphas(self, here: slice, out: Float[Tensor, "pixels m"]) -> None:
        """Evaluate alpha for the pairs ``here`` of one tile at its pixels, row by row."""
        power = out.view(len(self.dy), len(self.dx), -1)
        torch.add(self.slant[None, :, here], self.by_row[:, None, here], out=power)
        torch.addcmul(self.by_column[None, :, here], self.dy[:, None, here], power, out=power)
        torch.threshold_(out, math.log2(MIN_ALPHA), -math.inf)
        out.exp2_().clamp_(max=MAX_ALPHA)

    def monomials(self) -> Float[Tensor, "6 pixels"]:
        """Return 1, x, y, x^2, xy, y^2 at each pixel of a tile, relative to the tile's centre."""
        tile = len(self.dx)
        steps = torch.arange(tile, dtype=self.dx.dtype, device=self.dx.device) + 0.5 - tile / 2
        y, x = (grid.flatten() for grid in torch.meshgrid(steps, steps, indexing="ij"))
        return torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y])

    def gradients(
        self, moments: Float[Tensor, "6 p"]
    ) -> tuple[Float[Tensor, "2 p"], Float[Tensor, "3 p"], Float[Tensor, " p"]]:
        """Return the gradients of means, conics and log opacities.

        Args:
            moments: for each pair, the sum of the ``monomials`` over the pixels of its tile, with
                weights d loss / d log alpha.
        """
        A, B, C = self.conics
        one, x, y, xx, xy, yy = moments
        # Move the origin from the tile's centre to the mean. (u, v) is the centre minus the mean.
        u, v = 0.5 * (self.dx[0] + self.dx[-1]), 0.5 * (self.dy[0] + self.dy[-1])
        xx = xx + 2 * u * x + u * u * one
        xy = xy + u * y + v * x + u * v * one
        yy = yy + 2 * v * y + v * v * one
        x, y = x + u * one, y + v * one
        d_means = torch.stack([A * x + B * y, B * x + C * y])
        return d_means, torch.stack([-0.5 * xx, -xy, -0.5 * yy]), one


def _paint(colors: Float[Tensor, "b n c"], pairs: Pairs) -> Float[Tensor, "planes p"]:
    """Return the colours and 1 for each pair, which the weights of a pixel are multiplied by."""
    rows = colors.flatten(0, 1)[pairs.rows]
    return torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1).mT.contiguous()


def _carve(workspace: Float[Tensor, "k size"], pixels: int, here: slice) -> tuple[Tensor, ...]:
    """Return contiguous, uninitialized arrays ``[pixels, m]`` for one tile."""
    count = here.stop - here.start
    return workspace[:, : pixels * count].view(-1, pixels, count).unbind()


def _weights(
    alpha: Float[Tensor, "pixels m"],
    rest: Float[Tensor, "pixels m"],
    out: Float[Tensor, "pixels m"],
) -> None:
    """Compute the weights ``alpha_i T_{i-1}``, which are 0 from where the pixel ends.

    ``rest`` is filled with ``1 - alpha_i``.
    """
    torch.neg(alpha, out=rest).add_(1)
    after = rest.cumprod(dim=-1)
    out[:, 0] = alpha[:, 0]
    torch.mul(alpha[:, 1:], after[:, :-1], out=out[:, 1:])
    # The transmittance only falls, so its last value shows whether a pixel ends. In most tiles none
    # does, and no mask is needed.
    if bool((after[:, -1] <= MIN_TRANSMITTANCE).any()):
        out.mul_(torch.gt(after, MIN_TRANSMITTANCE, out=after))


def _slopes(
    alpha: Float[Tensor, "pixels m"],
    rest: Float[Tensor, "pixels m"],
    gain: Float[Tensor, "pixels m"],
    out: Float[Tensor, "pixels m"],
) -> None:
    """Compute d loss / d log alpha, given ``gain_i = w_i v_i`` with ``v_i`` = d loss / d weight.

    The result is ``gain_i - alpha_i / (1 - alpha_i) sum_{j > i} gain_j``, as the light that
    Gaussian i absorbs does not reach the Gaussians behind it. It is zero where alpha is capped, and
    behind the end of a pixel, where all gains are zero.
    """
    so_far = torch.cumsum(gain, dim=-1, out=out)
    total = so_far[:, -1:].clone()
    behind = so_far.neg_().add_(total)
    torch.sub(gain, behind.mul_(alpha).div_(rest), out=out)
    cap = alpha.new_tensor(MAX_ALPHA)
    if bool(alpha.max() >= cap):
        out.mul_(torch.lt(alpha, cap, out=rest))
