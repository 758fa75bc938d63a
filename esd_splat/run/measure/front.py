"""Where the front of a scene is, from the sides that its views show."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_CONTRAST = 0.25
"""The contrast below which no direction is called the front. It is 0.9 if a quarter of all views is
surely the front and the opposite quarter surely the back, and 0 for two opposite fronts."""


def front_azimuth(sides: Float[Tensor, "views 3"]) -> float | None:
    """Return the azimuth that the front faces, in degrees in (-180, 180].

    Of all curves ``c cos(azimuth - front)``, which have the front at 1, the sides at 0 and the back
    at -1, it is the one that fits ``p(front) - p(back)`` best by least squares. The fit is the
    first Fourier coefficient of the views.

    Args:
        sides: the probabilities of front, side and back. The views are at equal steps of azimuth,
            once around the object, and the first is at azimuth 0.

    Returns:
        ``None`` if ``c`` is below ``LEAST_CONTRAST``: the views show no front opposite to a back.

    Example:
        >>> front_azimuth(torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]))
        90.0
    """
    signal = sides[:, 0].double() - sides[:, 2].double()
    angles = 2 * math.pi * torch.arange(len(sides), dtype=torch.float64) / len(sides)
    x, y = float((signal * angles.sin()).mean()), float((signal * angles.cos()).mean())
    if 2 * math.hypot(x, y) < LEAST_CONTRAST:
        return None
    return round(math.degrees(math.atan2(x, y)), 1)
