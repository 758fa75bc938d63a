"""Whether neighbouring views show the same surface in the same colours."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from esd_splat.scene.cameras import Cameras
from esd_splat.types import Images

SAME_SURFACE = 0.05
"""The largest distance in depth, in world units, of two points that count as the same. The object
fills a ball of radius 1, and its surface is as thick as its Gaussians."""


@dataclass(frozen=True)
class Consistency:
    """How well neighbouring views agree where both see the same surface."""

    difference: float | None
    """Mean absolute difference of their colours, in [0, 1], or ``None`` if they share no pixel."""
    shared: float
    """The share of the pixels with a depth whose surface the next view sees too, in [0, 1]."""


def consistency(images: Images, depths: Float[Tensor, "b h w"], cameras: Cameras) -> Consistency:
    """Compare each view with the next one, and the last with the first, through its depth.

    Each pixel with a depth is moved to where the next camera sees its point of the surface. It
    counts if the depth there is the same, so that neither surface hides the other.

    Args:
        images: RGB in [0, 1].
        depths: the distance of the surface along the viewing axis, in world units, or 0 where no
            surface hides the background.
        cameras: the pinhole cameras of the views, on the device of ``depths``. They are in order
            around the object.
    """
    following = torch.arange(len(cameras)).roll(-1).to(depths.device)
    seen, depth_there, where, inside = _moved(depths, cameras, cameras[following])
    colours = F.grid_sample(images[following], where, align_corners=False)
    there = depths[following][:, None]
    # A pixel whose neighbours lie before the background would mix the two.
    solid = F.grid_sample((there > 0).float(), where, align_corners=False)[:, 0] > 0.999
    nearest = F.grid_sample(there, where, align_corners=False)[:, 0]
    shared = seen & inside & solid & ((depth_there - nearest).abs() <= SAME_SURFACE)
    if not seen.any():
        return Consistency(None, 0.0)
    off = (colours - images).abs().mean(1)[shared]
    return Consistency(
        float(off.mean()) if len(off) else None, float(shared.sum()) / float(seen.sum())
    )


def _moved(
    depths: Float[Tensor, "b h w"], cameras: Cameras, following: Cameras
) -> tuple[
    Bool[Tensor, "b h w"], Float[Tensor, "b h w"], Float[Tensor, "b h w 2"], Bool[Tensor, "b h w"]
]:
    """Find the points of each view in the following one.

    Returns:
        Which pixels have a point; its depth in the following view; where it is there, from -1 to 1
        across the image; and whether that is inside of the image.
    """
    height, width = depths.shape[1:]
    options = {"dtype": depths.dtype, "device": depths.device}
    rows, columns = torch.meshgrid(
        torch.arange(height, **options) + 0.5, torch.arange(width, **options) + 0.5, indexing="ij"
    )
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).flatten(0, 1)
    rays = pixels @ cameras.Ks.inverse().mT
    points = rays * depths.flatten(1)[..., None]
    c2w, viewmats = cameras.c2w, following.viewmats
    points = points @ c2w[:, :3, :3].mT + c2w[:, None, :3, 3]
    points = points @ viewmats[:, :3, :3].mT + viewmats[:, None, :3, 3]
    depth_there = points[..., 2].view_as(depths)
    seen = (depths > 0) & (depth_there > 0)
    projected = points @ following.Ks.mT
    projected = projected[..., :2] / points[..., 2:].clamp(min=1e-6)
    where = 2 * projected / projected.new_tensor([width, height]) - 1
    where = where.view(*depths.shape, 2)
    return seen, depth_there, where, (where.abs() < 1).all(-1)
