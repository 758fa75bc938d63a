"""Dropping, cloning and splitting rows in place, in PyTorch: this defines what the kernels do.

Every row that grows, be it by a clone or by a split, adds one new row and keeps its own. New rows,
in the order of the rows they come from, fill the holes that dropped rows leave, from the front;
what finds no hole is appended. Holes left over are filled with the last rows, in order. So a row
that nothing happens to stays where it is, unless it must move to close a hole.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from typing_extensions import override

from esd_splat.scene import kernels
from esd_splat.scene.densify.base import Edit, Rows
from esd_splat.scene.densify.random import normals
from esd_splat.scene.gaussians import Gaussians

DROP, KEEP, CLONE, SPLIT = range(4)
"""What may happen to a row."""
SPLIT_SHRINK = 1.6
"""A split's children are smaller than their parent by this factor (3DGS)."""


@dataclass(frozen=True)
class Growth(Edit):
    """One action per row. Clones and children start at rest; a clone's source keeps its moments."""

    action: UInt8[Tensor, " n"]
    count: int
    seed: int
    """With ``step`` and the row, the key of a split's noise."""
    step: int

    @override
    @torch.no_grad()
    def carry_out(self, rows: Rows) -> None:
        grow = grow_native if kernels.has("grow", self.action) else grow_torch
        grow(rows, self)


def grow_native(rows: Rows, edit: Growth) -> None:
    """As ``grow_torch``, by one kernel over all buffers."""
    fields = list(vars(rows.scene).values())
    kernels.ops.grow(edit.action, fields, rows.moments, edit.count, edit.seed, edit.step)


@kernels.fake("grow")
def _(action: Tensor, fields: list[Tensor], moments: list[Tensor], *keys: int) -> None: ...


def grow_torch(rows: Rows, edit: Growth) -> None:
    """Move, clone and split rows as ``edit`` says."""
    action, count = edit.action, edit.count
    holes = (action == DROP).nonzero().squeeze(-1)
    growers = (action >= CLONE).nonzero().squeeze(-1)
    more = torch.arange(len(action), max(len(action), count), device=action.device)
    births = torch.cat([holes, more])[: len(growers)]
    spare = holes[len(growers) :]
    spare = spare[spare < count]
    tail = count + (action[count:] != DROP).nonzero().squeeze(-1)

    place = torch.arange(len(action), device=action.device)
    place[tail] = spare
    own, split = place[growers], action[growers] == SPLIT
    first, second = _offspring(rows.scene.map(lambda v: v[growers]), growers, split, edit)
    for buffer in rows.buffers:
        buffer[torch.cat([spare, births])] = buffer[torch.cat([tail, growers])]
    for name, field in vars(rows.scene).items():
        field[own], field[births] = getattr(first, name), getattr(second, name)
    for moment in rows.moments:
        moment[torch.cat([births, own[split]])] = 0


def _offspring(
    parents: Gaussians, rows: Int[Tensor, " m"], split: Tensor, edit: Growth
) -> tuple[Gaussians, Gaussians]:
    """What stands in each grower's own row afterwards, and what in the new one."""
    # In double precision and rounded once, as the kernels do: so all agree to the bit.
    wide = parents.map(lambda value: value.double())
    opacity = torch.where(split, wide.opacity_logits, halved(wide.opacity_logits))
    smaller = wide.log_scales - torch.where(split, math.log(SPLIT_SHRINK), 0.0)[:, None]

    def child(copy: int) -> Gaussians:
        noise = normals(edit.seed, edit.step, rows, copy).double()
        offset = (wide.covariance_factors @ noise[..., None]).squeeze(-1)
        means = wide.means + torch.where(split[:, None], offset, 0.0)
        changed = {"means": means, "log_scales": smaller, "opacity_logits": opacity}
        return Gaussians(**vars(parents) | {k: v.to(parents.means) for k, v in changed.items()})

    return child(0), child(1)


def halved(opacity_logits: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Logits of ``1 - sqrt(1 - o)``: two of these in front of one another are as opaque as ``o``.

    Rota Bulo et al., "Revising densification in Gaussian splatting", arXiv:2404.06109. Without it
    every clone makes the picture more opaque.
    """
    log_clear = torch.nn.functional.logsigmoid(-opacity_logits) / 2
    return (-torch.expm1(log_clear)).log() - log_clear
