"""Dropping, cloning and splitting rows in place.

The PyTorch code here defines what the compiled kernels do. Every row that grows, by a clone or by a
split, keeps its own place and adds one new row. The new rows, in the order of the rows they come
from, fill the holes that dropped rows leave, from the front; when there are no more holes, the rest
is appended. If holes are left over, the last rows of the scene move into them, in order. A row that
neither grows nor is dropped therefore stays where it is, unless it has to close a hole.
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
"""The actions for a row."""
SPLIT_SHRINK = 1.6
"""The scales of a parent are divided by this for the two children of a split (3DGS)."""


@dataclass(frozen=True)
class Growth(Edit):
    """An edit with one action per row.

    Clones, and both children of a split, start with zero moments. The source of a clone keeps its
    moments.
    """

    action: UInt8[Tensor, " n"]
    count: int
    seed: int
    """Seed of the run. With ``step`` and the row it determines the random offsets of a split."""
    step: int

    @override
    @torch.no_grad()
    def carry_out(self, rows: Rows) -> None:
        grow = grow_native if kernels.has("grow", self.action) else grow_torch
        grow(rows, self)


def grow_native(rows: Rows, edit: Growth) -> None:
    """Do the same as ``grow_torch`` with one compiled kernel over all buffers."""
    fields = list(vars(rows.scene).values())
    kernels.ops.grow(edit.action, fields, rows.moments, edit.count, edit.seed, edit.step)


@kernels.fake("grow")
def _(action: Tensor, fields: list[Tensor], moments: list[Tensor], *keys: int) -> None: ...


def grow_torch(rows: Rows, edit: Growth) -> None:
    """Move, clone and split rows in place according to ``edit``."""
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
    """Return what replaces each growing row, and what its new row contains."""
    # Like the kernels, compute in double precision and round once, so that all agree to the bit.
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
    """Return the logits of ``1 - sqrt(1 - o)``, where ``o`` are the given opacities.

    Two Gaussians of this opacity, one in front of the other, are together as opaque as one of
    opacity ``o``. Otherwise every clone would make the image more opaque (Rota Bulo et al.,
    "Revising densification in Gaussian splatting", arXiv:2404.06109).
    """
    log_clear = torch.nn.functional.logsigmoid(-opacity_logits) / 2
    return (-torch.expm1(log_clear)).log() - log_clear
