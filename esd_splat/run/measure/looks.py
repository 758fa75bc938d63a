"""Which side of the figurine an image shows. Its camera need not be known."""

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.figurines import parse
from esd_splat.run.measure.faces import FRONT_DEG
from esd_splat.run.measure.truth import Truth, shrunk
from esd_splat.scene.cameras import Orbit, wrap_deg
from esd_splat.types import Images

TEMPLATES = 36
"""The number of templates around the figurine. None of them lies on a border between front, side
and back. Of images from all around, as many therefore count as front as back, and twice as many as
side."""


@torch.no_grad()
def side_shares(images: Images, prompt: str, orbit: Orbit) -> dict[str, float] | None:
    """Return the shares of ``images`` that look most like the figurine's front, side and back.

    Azimuths within 45 degrees of 0 are the front, those within 45 degrees of 180 the back, and all
    others the side. For images from all around, the shares are a quarter, a half and a quarter.

    Args:
        images: square images of the figurine in front of a plain background, whose colour is
            taken from the outermost pixels.
        prompt: what they should show.
        orbit: the templates are at the middle of its ranges.

    Returns:
        ``None`` if ``prompt`` does not describe a figurine.
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
    """The median colour of the outermost pixels of each image, which no figurine reaches."""
    top, bottom = images[:, :, 0], images[:, :, -1]
    left, right = images[:, :, 1:-1, 0], images[:, :, 1:-1, -1]
    return torch.cat([top, bottom, left, right], dim=2).median(2).values
