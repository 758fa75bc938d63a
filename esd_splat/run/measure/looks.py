"""Which side of the figurine pictures show, from cameras that need not be known."""

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.figurines import parse
from esd_splat.run.measure.faces import FRONT_DEG
from esd_splat.run.measure.truth import Truth, shrunk
from esd_splat.scene.cameras import Orbit, wrap_deg
from esd_splat.types import Images

TEMPLATES = 36
"""Around the figurine. No border between front, side and back falls on one, so that as many
pictures from everywhere are front as back, and twice as many side."""


@torch.no_grad()
def side_shares(images: Images, prompt: str, orbit: Orbit) -> dict[str, float] | None:
    """Shares of ``images`` that look most like the figurine's front, side and back.

    Within 45 degrees of azimuth 0 is front, of 180 back, the rest side: pictures from all around
    are a quarter, a half and a quarter.

    Args:
        images: square, the figurine before a plain background, of which the rim is taken to be.
        prompt: what they should show.
        orbit: of the middle of its ranges are the templates.

    Returns:
        ``None`` if ``prompt`` is no figurine.
    """
    asked = parse(prompt)
    if asked is None:
        return None
    small = shrunk(images.float().cpu().clamp(0, 1))
    truth = Truth(*asked, orbit, sum(orbit.elevation) / 2)
    _, distances = truth.compared(small, _rim(small), TEMPLATES)
    from_front = wrap_deg(distances.argmin(1) * (360 / TEMPLATES)).abs()
    front = float((from_front < FRONT_DEG).double().mean())
    back = float((from_front > 180 - FRONT_DEG).double().mean())
    return {"front": front, "side": 1 - front - back, "back": back}


def _rim(images: Images) -> Float[Tensor, "b 3"]:
    """The middle colour of each picture's outermost pixels, which no figurine reaches."""
    top, bottom = images[:, :, 0], images[:, :, -1]
    left, right = images[:, :, 1:-1, 0], images[:, :, 1:-1, -1]
    return torch.cat([top, bottom, left, right], dim=2).median(2).values
