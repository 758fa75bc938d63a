"""How many faces an object has, from the pose that each of its views looks most like."""

from jaxtyping import Bool, Float
from torch import Tensor

from esd_splat.scene.cameras import wrap_deg

FRONT_DEG = 45.0
"""A pose is a front one up to this azimuth on either side."""
JANUS_SHARE = 1.5
"""More than this many times the truth's front views is Janus, even in one piece."""


def count_faces(looks_deg: Float[Tensor, " views"], blank: Bool[Tensor, " views"]) -> int:
    """How many separate ranges of views look like the front.

    A view is a front one if the pose it looks most like is within 45 degrees of the front. Going
    round the object, the next front view belongs to another face if at least two views between
    them are not front ones (a lone odd view does not split a face), or if the pose turns back by
    more than 45 degrees: it moves on with the camera as long as one face goes by.

    Args:
        looks_deg: azimuth of the pose that each view looks most like; views at equal steps of
            azimuth, once around.
        blank: views that show nothing; they are no front.

    Returns:
        0 if no view is a front one; 1 for the truth, and for a front that never ends.
    """
    front = _is_front(looks_deg, blank).nonzero().squeeze(-1)
    if not len(front):
        return 0
    gap = (front.roll(-1) - front - 1) % len(looks_deg)
    turn = wrap_deg(looks_deg[front.roll(-1)] - looks_deg[front])
    return max(1, int(((gap >= 2) | (turn < -FRONT_DEG)).sum()))


def front_share(looks_deg: Float[Tensor, " views"], blank: Bool[Tensor, " views"]) -> float:
    """Front views over the truth's, a quarter of all. 4 if every view is a front one.

    The truth scores 1, or up to 1.25 of 16 views where both ends of the range are hit exactly.
    """
    return float(_is_front(looks_deg, blank).double().mean()) / (2 * FRONT_DEG / 360)


def _is_front(
    looks_deg: Float[Tensor, " views"], blank: Bool[Tensor, " views"]
) -> Bool[Tensor, " views"]:
    return (wrap_deg(looks_deg).abs() <= FRONT_DEG) & ~blank
