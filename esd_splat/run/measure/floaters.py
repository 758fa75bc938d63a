"""How much of what is seen of a scene does not belong to its main body."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from esd_splat.scene.cameras import BALL_RADIUS
from esd_splat.scene.gaussians import Gaussians, quats_to_rotmats

CELLS = 48
"""The number of cells along each edge of the cube that the body is looked for in."""
EDGE = 2.4 * BALL_RADIUS
"""Length of that edge, in world units. An object fills the unit ball, so what has its centre
outside of the cube is no part of it."""
CELL = EDGE / CELLS
SIGMAS = 2.0
"""The number of standard deviations up to which a Gaussian fills cells."""
DENSE = 0.3
"""The summed density of the Gaussians above which a cell is part of a body. Faint fog is none, but
many faint Gaussians in the same place are. A thin sheet halfway between the centres of two layers
of cells has 0.6 of its density in both."""
CHUNK = 2**21
"""The number of pairs of a Gaussian and a cell that are computed at a time."""


@torch.no_grad()
def floaters(scene: Gaussians, light: Float[Tensor, " n"]) -> float:
    """Return the share of ``light`` that comes from outside of the main body, in [0, 1].

    The densities of all Gaussians are summed on a grid of cells. Dense cells that touch, also at
    a corner, form a body, and the main body is the one that sends the most light. Gaussians with
    their centres outside of its cells are floaters. The cost of a grid grows with the number of
    Gaussians, and that of finding which ellipsoids touch with its square. Gaps of fewer than two
    cells (0.1 world units) are not seen.

    Args:
        scene: the Gaussians, in the unit ball.
        light: how much each Gaussian adds to the pixels, as ``contributions`` returns it, or its
            opacity.

    Returns:
        1 if no cell is dense, and 0 if there is no light.
    """
    total = float(light.double().sum())
    if total <= 0:
        return 0.0
    bodies = _connected(_densities(scene) >= DENSE)
    cells, inside = _cells(scene.means)
    body = torch.where(inside, bodies.flatten()[cells], -1)
    there = body >= 0
    if not there.any():
        return 1.0
    sums = torch.zeros(CELLS**3, dtype=torch.float64, device=light.device)
    sums.index_add_(0, body[there], light[there].double())
    return 1 - float(sums.max()) / total


def _cells(points: Float[Tensor, "*n 3"]) -> tuple[Int[Tensor, " *n"], Bool[Tensor, " *n"]]:
    """Return the index of the cell that holds each of ``points``, and whether there is one."""
    at = ((points + EDGE / 2) / CELL).floor()
    inside = ((at >= 0) & (at < CELLS)).all(-1)
    x, y, z = at.clamp(0, CELLS - 1).long().unbind(-1)
    return (x * CELLS + y) * CELLS + z, inside


def _densities(scene: Gaussians) -> Float[Tensor, "x y z"]:
    """Return the sum of ``opacity exp(-d^2 / 2)`` at the centre of each cell.

    ``d`` is the distance from a mean in standard deviations. Each variance is enlarged by that of
    half a cell, so that thin Gaussians do not fall between the centres.
    """
    grid = torch.zeros(CELLS**3, device=scene.means.device)
    scales = (scene.log_scales.exp().square() + (0.5 * CELL) ** 2).sqrt()
    # Fits Gaussians of similar size into the same block of cells.
    reach = (SIGMAS * scales.amax(1) / CELL).ceil().clamp(max=CELLS)
    reach = 2 ** reach.log2().ceil()
    _, inside = _cells(scene.means)
    for most in reach[inside].unique().tolist():
        side = torch.arange(-int(most), int(most) + 1, device=grid.device) * CELL
        block = torch.cartesian_prod(side, side, side)
        members = (inside & (reach == most)).nonzero()[:, 0]
        for rows in members.split(max(1, CHUNK // len(block))):
            _add(grid, scene.map(lambda value, rows=rows: value[rows]), scales[rows], block)
    return grid.view(CELLS, CELLS, CELLS)


def _add(
    grid: Float[Tensor, " cells"],
    scene: Gaussians,
    scales: Float[Tensor, "n 3"],
    block: Float[Tensor, "m 3"],
) -> None:
    """Add the densities of a few Gaussians to the cells around each mean, at offsets ``block``."""
    centres = ((scene.means / CELL).floor() + 0.5) * CELL
    points = centres[:, None] + block
    local = (points - scene.means[:, None]) @ quats_to_rotmats(scene.quats) / scales[:, None]
    squared = local.square().sum(-1)
    cells, inside = _cells(points)
    near = inside & (squared <= SIGMAS**2)
    density = scene.opacities[:, None] * torch.exp(-0.5 * squared)
    grid.index_add_(0, cells[near], density[near])


def _connected(dense: Bool[Tensor, "x y z"]) -> Int[Tensor, "x y z"]:
    """Return a number for each cell that is the same in all connected cells, and -1 where empty."""
    # The largest number spreads to neighbours until nothing changes. Float32 holds all integers up
    # to 2^24, which is far more than there are cells.
    numbers = torch.arange(dense.numel(), dtype=torch.float32, device=dense.device)
    labels = torch.where(dense, numbers.view(dense.shape), -math.inf)
    while True:
        spread = F.max_pool3d(labels[None, None], 3, stride=1, padding=1)[0, 0]
        spread = torch.where(dense, spread, -math.inf)
        if torch.equal(spread, labels):
            return torch.where(dense, labels, -1).long()
        labels = spread
