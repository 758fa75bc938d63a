"""The training data of the embedded teacher: photographs of figurines with web-like captions.

The cameras favour the front, as photographs on the web do. This bias is said to cause the Janus
problem; here its dose is known.
"""

import random
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from esd_splat.figurines import COLOURS, HELD_OUT, KINDS, caption, trace
from esd_splat.scene.cameras import Orbit, wrap_deg

FRONT_SPREAD_DEG = 22.0
"""Standard deviation in degrees of the azimuths of photographs that aim at the front."""
FRONT_HIT = 0.9592
"""The share of these that is within 45 degrees of the front: erf(45 / 22 / sqrt 2)."""
FRONT_SHARES = (0.25, 0.95)
"""The range of the share of photographs from within 45 degrees of the front. The lower end is a
uniform distribution, and the upper end is close to ``FRONT_HIT``."""
VIEW_WORD_SHARE = 0.3
"""The share of captions that name the view."""
BARE_SHARE = 0.1
"""The share of captions without an article, such as "red owl"."""
PAIRS = [(k, c) for k in KINDS for c in COLOURS if (k, c) not in HELD_OUT]


@dataclass(frozen=True)
class Photos:
    """Photographs, and what they show."""

    images: UInt8[Tensor, "n 3 s s"]
    pairs: Int[Tensor, " n"]
    """Index into ``PAIRS``."""
    azimuth_deg: Float[Tensor, " n"]


def draw_azimuths(
    count: int, front_share: float, generator: torch.Generator
) -> Float[Tensor, " n"]:
    """Draw azimuths in degrees, of which ``front_share`` is within 45 degrees of the front.

    Their distribution is a mixture of a normal around the front and a uniform one.

    Args:
        front_share: in ``FRONT_SHARES``.
    """
    aimed = torch.rand(count, generator=generator) < (front_share - 0.25) / (FRONT_HIT - 0.25)
    front = torch.randn(count, generator=generator) * FRONT_SPREAD_DEG
    anywhere = torch.rand(count, generator=generator) * 360 - 180
    return torch.where(aimed, front, anywhere)


def photograph(count: int, front_share: float, seed: int, size: int = 64) -> Photos:
    """Trace ``count`` photographs of training pairs over plain random backgrounds."""
    generator = torch.Generator().manual_seed(seed)
    orbit = Orbit()
    pairs = torch.randint(len(PAIRS), (count,), generator=generator).sort().values
    azimuth = draw_azimuths(count, front_share, generator)
    low, high = orbit.elevation
    elevation = low + (high - low) * torch.rand(count, generator=generator)
    backgrounds = torch.rand(count, 3, generator=generator)
    cameras = orbit.at(azimuth, elevation, size)
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    for index in range(len(PAIRS)):
        for rows in (pairs == index).nonzero().squeeze(-1).split(32):
            seen = trace(
                *PAIRS[index], cameras.viewmats[rows], cameras.Ks[rows], size, backgrounds[rows]
            )
            images[rows] = (seen * 255).round().byte()
    return Photos(images, pairs, azimuth)


def view_of(azimuth_deg: float) -> str:
    """Return the view word of an azimuth in degrees: 90 degrees are front, 90 back, 180 side."""
    turned = abs(wrap_deg(azimuth_deg))
    return "front" if turned < 45 else "back" if turned > 135 else "side"


def write_captions(
    photos: Photos, rows: Tensor, empty_share: float, rng: random.Random
) -> list[str]:
    """Return a caption for each row. Some name the view, lack an article, or are empty."""
    written = []
    for row in rows.tolist():
        view = view_of(photos.azimuth_deg[row].item()) if rng.random() < VIEW_WORD_SHARE else None
        words = caption(*PAIRS[int(photos.pairs[row])], view)
        if rng.random() < BARE_SHARE:
            words = words.split(" ", 1)[1]
        written.append("" if rng.random() < empty_share else words)
    return written
