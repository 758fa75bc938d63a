"""Scenes and renders that the densifiers' tests share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from esd_splat.scene.densify import Edit, Rows
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize.base import Render


def scene_of_rows(count: int, seed: int = 0, sh: int = 0) -> Gaussians:
    """Small, half-opaque Gaussians, no two rows alike."""
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=torch.randn(count, 3, generator=g) / 3,
        quats=torch.randn(count, 4, generator=g),
        log_scales=-4 + 0.3 * torch.randn(count, 3, generator=g),
        opacity_logits=0.3 * torch.randn(count, generator=g),
        sh0=torch.randn(count, 1, 3, generator=g),
        shN=torch.randn(count, sh, 3, generator=g),
    )


def with_rows(scene: Gaussians, **changes: dict[int, object]) -> Gaussians:
    """A copy of ``scene`` with rows replaced, for instance by ``log_scales={3: -1.0}``."""
    fields = {name: value.clone() for name, value in vars(scene).items()}
    for name, rows in changes.items():
        for row, value in rows.items():
            fields[name][row] = torch.as_tensor(value)
    return Gaussians(**fields)


def with_room(value: Tensor, room: int) -> Tensor:
    """Copy ``value`` to a buffer of ``room`` rows, where unused rows are NaN."""
    return torch.cat([value, torch.full((room - len(value), *value.shape[1:]), torch.nan)])


@dataclass
class Outcome:
    """A scene after an edit, and the old row that each of its rows descends from."""

    gaussians: Gaussians
    parent: list[int]
    fresh: list[bool]
    """Whether the moments of each row were reset."""


def outcome(scene: Gaussians, edit: Edit) -> Outcome:
    """Carry ``edit`` out twice: on ``scene``, and on a copy with row numbers as colours."""
    room, count = max(len(scene), edit.count), edit.count
    numbers = torch.arange(float(len(scene)))
    tagged = Gaussians(**vars(scene) | {"sh0": numbers[:, None, None].expand(-1, 1, 3)})
    after = []
    for one in (scene, tagged):
        rows = Rows(one.map(lambda v: with_room(v.detach(), room)), [with_room(numbers + 1, room)])
        edit.carry_out(rows)
        after.append(rows)
    return Outcome(
        after[0].scene.map(lambda v: v[:count]),
        after[1].scene.sh0[:count, 0, 0].int().tolist(),
        (after[1].moments[0][:count] == 0).tolist(),
    )


def render_of(visible: Tensor) -> Render:
    """A render in which only ``visible [b n]`` is meaningful."""
    views, count = visible.shape
    return Render(
        images=torch.zeros(views, 3, 1, 1),
        alphas=torch.zeros(views, 1, 1),
        means2d=torch.zeros(views, count, 2),
        visible=visible,
    )


def seen_by_all(views: int, count: int) -> Render:
    return render_of(torch.ones(views, count, dtype=torch.bool))
