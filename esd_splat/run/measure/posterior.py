"""The probabilities of the pose that each view shows, and the entropies that reveal collapse."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.figurines import COLOURS, KINDS
from esd_splat.run.measure.truth import BACKGROUND, TEMPLATE_SIZE, templates
from esd_splat.scene.cameras import Orbit, wrap_deg

TEMPERATURE = 1e-4
"""The mean squared difference per channel and pixel, of values in [0, 1], that makes a pose e times
less likely. It was chosen once by ``calibrate`` and must never be tuned on results. It corresponds
to noise of variance 5e-5 and to a difference of 1 % of the range over the whole image."""
FINER = 4
"""The number of templates per view."""
SURE = 0.01
"""The IQ in nats below which the pose is clear in every view, so that a ratio to IQ is useless."""


def pose_measures(posterior: Float[Tensor, "views bins"]) -> dict[str, float | None]:
    """Return entropies, in nats, of the pose that the views show.

    Args:
        posterior: the probabilities of the pose bins for each view. Rows sum to 1.

    Returns:
        ``IQ`` is the mean entropy of a view, low if every view clearly shows one pose. ``IV`` is
        the entropy of the mean over views, high if the views differ. ``MI = IV - IQ`` is at most
        log(bins), and zero if all views are alike. ``IG = MI / IQ`` is ``None`` if IQ < 0.01.
    """
    p = posterior.double()
    quality = float(_entropy(p).mean())
    variety = float(_entropy(p.mean(0)))
    # Entropy is concave, so only rounding can make this negative.
    information = max(0.0, variety - quality)
    gain = information / quality if quality >= SURE else None
    return {"IQ": quality, "IV": variety, "IG": gain, "MI": information}


def pose_posterior(
    distances: Float[Tensor, "views templates"],
    rotation_deg: float,
    temperature: float = TEMPERATURE,
) -> Float[Tensor, "views views"]:
    """Return the probability of each pose bin for each view. There are as many bins as views.

    The centre of bin ``k`` is the pose that view ``k`` would show if the scene were the true object
    rotated by ``rotation_deg``, so rotating the true object does not change its posterior. A
    template whose range of azimuths crosses the border of two bins is divided between them.

    Args:
        distances: the distance of each view to each template. Both are at equal steps of azimuth
            from 0.
        rotation_deg: the azimuth that the front of the scene faces.
        temperature: see ``TEMPERATURE``.
    """
    views, templates = distances.shape
    step, width = 360 / templates, 360 / views
    azimuth = step * torch.arange(templates, dtype=torch.float64)
    centre = width * torch.arange(views, dtype=torch.float64) - rotation_deg
    apart = wrap_deg(azimuth[:, None] - centre).abs()
    share = ((width + step) / 2 - apart).clamp(0, step) / step
    return torch.softmax(-distances.double() / temperature, dim=1) @ share


def calibrate(views: int = 16, target: float = 0.95) -> float:
    """Return the largest temperature of a 1-2-5 series that keeps the true objects' information.

    With it, the MI averaged over all prompts and three rotations is at least
    ``target * log(views)``. A lower temperature would mistake noise for a pose.
    """
    cases = list(_truths(views))
    for temperature in (5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5):
        found = [pose_measures(pose_posterior(*case, temperature))["MI"] or 0.0 for case in cases]
        if sum(found) / len(found) >= target * math.log(views):
            return temperature
    raise AssertionError("the truth's own views cannot be told apart")


def _truths(views: int) -> Iterator[tuple[Tensor, float]]:
    """Yield the distances of true views to their own templates, and the rotation of the object.

    Every prompt is rotated by zero, by half a bin, and by half a step between templates.
    """
    fine = FINER * views
    grey = torch.full((fine, 3), BACKGROUND)
    step = 360 / fine
    for kind in KINDS:
        bank = templates((kind,), fine, Orbit(), 15.0, TEMPLATE_SIZE)
        between = templates((kind,), views, Orbit(), 15.0, TEMPLATE_SIZE, first_deg=step / 2)
        for index, colour in enumerate(COLOURS):
            exact = bank.over(kind, colour, grey)
            seen = {
                0.0: exact[::FINER],
                -180 / views: exact[FINER // 2 :: FINER],
                -step / 2: between.over(kind, colour, grey[:views]),
            }
            for turn, images in seen.items():
                yield bank.distances(images, grey[:views])[:, 0, index], turn


def _entropy(p: Float[Tensor, "*rows bins"]) -> Float[Tensor, "*rows"]:
    return torch.special.entr(p).sum(-1)
