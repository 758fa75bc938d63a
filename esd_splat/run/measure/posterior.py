"""Which pose each view shows, as probabilities, and what their entropies say about collapse."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.figurines import COLOURS, KINDS
from esd_splat.run.measure.truth import BACKGROUND, TEMPLATE_SIZE, templates
from esd_splat.scene.cameras import Orbit, wrap_deg

TEMPERATURE = 1e-4
"""Squared difference per channel and pixel, of values in [0, 1], by which a pose becomes e times
less likely. Chosen once, by ``calibrate``, and never to be tuned on results. As the twin of a
noise of variance 5e-5 it asks for a difference of 1 % of the range over the whole picture."""
FINER = 4
"""Templates per view."""
SURE = 0.01
"""Entropy in nats below which every view is plainly one pose, and a ratio to it says nothing."""


def pose_measures(posterior: Float[Tensor, "views bins"]) -> dict[str, float | None]:
    """Entropies, in nats, of the pose that the views show.

    Args:
        posterior: of each view over pose bins; rows sum to 1.

    Returns:
        ``IQ``, the mean entropy of a view: low if each is clearly some pose. ``IV``, the entropy
        of the mean over views: high if they differ. ``MI = IV - IQ``, at most log(bins), zero if
        all views are alike. ``IG = MI / IQ``, ``None`` where IQ < 0.01.
    """
    p = posterior.double()
    quality = float(_entropy(p).mean())
    variety = float(_entropy(p.mean(0)))
    # Never negative but for rounding: entropy is concave.
    information = max(0.0, variety - quality)
    gain = information / quality if quality >= SURE else None
    return {"IQ": quality, "IV": variety, "IG": gain, "MI": information}


def pose_posterior(
    distances: Float[Tensor, "views templates"],
    rotation_deg: float,
    temperature: float = TEMPERATURE,
) -> Float[Tensor, "views views"]:
    """Probability of each pose bin, one bin per view, given how far each template is.

    Bin ``k`` is centred on what view ``k`` would show if the scene were the truth turned by
    ``rotation_deg``; so a rotated truth has the same posterior as the truth. A template that
    stands for azimuths on both sides of a border is shared between the bins.

    Args:
        distances: to templates at equal steps of azimuth from 0; views likewise.
        rotation_deg: azimuth that the scene's front faces.
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
    """The largest temperature of a 1-2-5 series that leaves the truth its pose information.

    That is, MI averaged over every prompt at three rotations is at least ``target * log(views)``.
    A lower one would call noise a pose.
    """
    cases = list(_truths(views))
    for temperature in (5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5):
        found = [pose_measures(pose_posterior(*case, temperature))["MI"] or 0.0 for case in cases]
        if sum(found) / len(found) >= target * math.log(views):
            return temperature
    raise AssertionError("the truth's own views cannot be told apart")


def _truths(views: int) -> Iterator[tuple[Tensor, float]]:
    """Distances of true views to their own templates, and how the truth is turned.

    Of every prompt, not turned, turned by half a bin, and by half a step between templates.
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
