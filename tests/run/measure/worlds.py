"""Sets of views that a measure must not be fooled by, each traced or made from traced pictures."""

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.figurines import trace
from esd_splat.scene.cameras import orbit_cameras
from esd_splat.types import Images

VIEWS = 16
RING = 360 * torch.arange(VIEWS, dtype=torch.float64) / VIEWS
GREY = torch.full((VIEWS, 3), 0.45)
SIZE = 64


def looking_like(
    azimuth_deg: Float[Tensor, " n"], kind: str = "owl", colour: str = "red"
) -> Images:
    """What the true figurine shows at each of these azimuths."""
    one = torch.ones(len(azimuth_deg), dtype=torch.float64)
    cameras = orbit_cameras(azimuth_deg, 15 * one, 3.2 * one, 40 * one, SIZE)
    return trace(kind, colour, cameras.viewmats, cameras.Ks, SIZE, GREY[: len(azimuth_deg)])


def turned(rotation_deg: float, kind: str = "owl", colour: str = "red") -> Images:
    """The truth with its front at azimuth ``rotation_deg``."""
    return looking_like(RING - rotation_deg, kind, colour)


def faced(count: int) -> Images:
    """An owl whose front is repeated ``count`` times: azimuths folded around the nearest front."""
    width = 360 / count
    return looking_like((RING + width / 2) % width - width / 2)


def front_all_round() -> Images:
    """The same front from everywhere."""
    return looking_like(torch.zeros(VIEWS, dtype=torch.float64))


def flat_card() -> Images:
    """A board with the front painted on it, seen through from behind."""
    paint = front_all_round() - GREY[:, :, None, None]
    squash = torch.deg2rad(RING).cos().float()
    squash = torch.where(squash.abs() < 0.01, 0.01, squash)
    grid = torch.zeros(VIEWS, 2, 3)
    grid[:, 0, 0], grid[:, 1, 1] = 1 / squash, 1
    where = torch.nn.functional.affine_grid(grid, [VIEWS, 3, SIZE, SIZE], align_corners=False)
    seen = torch.nn.functional.grid_sample(paint, where, align_corners=False)
    return seen + GREY[:, :, None, None]


def mirrored() -> Images:
    """The mirror image of an owl, as an object: flipped pictures, in the reverse order."""
    return looking_like(-RING).flip(-1)


def walked_backwards() -> Images:
    """Every true view, but in the wrong order round: no object looks like that."""
    return looking_like(-RING)


def grey_ball(light: float = 0.7) -> Images:
    """The same from everywhere."""
    at = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
    ball = (at[:, None].square() + at.square() < 0.5).float()
    return 0.45 + (light - 0.45) * ball.expand(VIEWS, 3, SIZE, SIZE)


def nothing() -> Images:
    """Only background."""
    return GREY[:, :, None, None].expand(VIEWS, 3, SIZE, SIZE).clone()
