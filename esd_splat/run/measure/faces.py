"""Counting the faces of an object from the pose that each of its views looks most like."""

from jaxtyping import Bool, Float
from torch import Tensor

from esd_splat.scene.cameras import wrap_deg

FRONT_DEG = 45.0
"""A pose counts as a front if its azimuth is at most this far from the front."""
JANUS_SHARE = 1.5
"""The ``front_share`` above which even an object with a single face has the Janus problem."""
VERDICTS = ("one face", "no face", "several faces", "too wide")
"""What can be found about the faces of an object. All but the first are kinds of the Janus problem.
"""


def count_faces(looks_deg: Float[Tensor, " views"], blank: Bool[Tensor, " views"]) -> int:
    """Count the separate ranges of views that look like the front.

    A front view is one whose most similar pose is within 45 degrees of the front. Around the
    object, two consecutive front views belong to different faces in two cases: if there are at
    least two other views between them (a single one does not split a face), or if the pose turns
    back by more than 45 degrees. While the camera passes a single face, the pose turns with it.

    Args:
        looks_deg: the azimuth of the pose that each view looks most like. The views are at equal
            steps of azimuth, once around the object.
        blank: which views show nothing. They do not count as front views.

    Returns:
        0 if there is no front view. 1 for the true object, and also for a single front that
        goes all around.
    """
    front = _is_front(looks_deg, blank).nonzero().squeeze(-1)
    if not len(front):
        return 0
    gap = (front.roll(-1) - front - 1) % len(looks_deg)
    turn = wrap_deg(looks_deg[front.roll(-1)] - looks_deg[front])
    return max(1, int(((gap >= 2) | (turn < -FRONT_DEG)).sum()))


def front_share(looks_deg: Float[Tensor, " views"], blank: Bool[Tensor, " views"]) -> float:
    """Return the number of front views relative to the true object, a quarter of whose views are.

    The result is 4 if all views are front views. The true object scores 1, or up to 1.25 with 16
    views if two of them are exactly at the ends of the range.
    """
    return float(_is_front(looks_deg, blank).double().mean()) / (2 * FRONT_DEG / 360)


def verdict(faces: int, share: float) -> str:
    """Return which of ``VERDICTS`` describes an object.

    Args:
        faces: the result of ``count_faces``.
        share: the result of ``front_share``.

    Example:
        >>> verdict(1, 1.25), verdict(1, 4.0), verdict(0, 0.0)
        ('one face', 'too wide', 'no face')
    """
    if faces == 0:
        return "no face"
    if faces > 1:
        return "several faces"
    return "too wide" if share > JANUS_SHARE else "one face"


def _is_front(
    looks_deg: Float[Tensor, " views"], blank: Bool[Tensor, " views"]
) -> Bool[Tensor, " views"]:
    return (wrap_deg(looks_deg).abs() <= FRONT_DEG) & ~blank
