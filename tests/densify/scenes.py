"""Scenes and renders that the densifiers' tests share."""

import torch
from torch import Tensor

from esd_splat.gaussians import Gaussians
from esd_splat.rasterize.base import Render


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
    """``scene`` with ``field={row: value}`` set, for instance ``log_scales={3: -1.0}``."""
    fields = {name: value.clone() for name, value in vars(scene).items()}
    for name, rows in changes.items():
        for row, value in rows.items():
            fields[name][row] = torch.as_tensor(value)
    return Gaussians(**fields)


def render_of(visible: Tensor) -> Render:
    """A render of which only ``visible [b n]`` means anything."""
    views, count = visible.shape
    return Render(
        images=torch.zeros(views, 3, 1, 1),
        alphas=torch.zeros(views, 1, 1),
        means2d=torch.zeros(views, count, 2),
        visible=visible,
    )


def seen_by_all(views: int, count: int) -> Render:
    return render_of(torch.ones(views, count, dtype=torch.bool))
