"""The measures of a scene: its views from all around are compared with the true object."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.config import Measure
from esd_splat.figurines import COLOURS, KINDS, parse
from esd_splat.run.measure.faces import JANUS_SHARE, VERDICTS, count_faces, front_share, verdict
from esd_splat.run.measure.posterior import FINER, SURE, pose_measures, pose_posterior
from esd_splat.run.measure.truth import BACKGROUND, Truth, templates
from esd_splat.scene.cameras import Cameras, Orbit
from esd_splat.types import Images

COARSE = 16
"""The number of templates of each figurine for finding out which figurine a view shows."""
HALVINGS = 5
"""How often the search for the rotation halves its step, down to 0.4 degrees with 16 views."""
BEST_DB = 100.0
"""The PSNR reported for views that equal those of the true object exactly."""


@dataclass(frozen=True)
class Meaning:
    """The meaning of a measure."""

    better: Literal["higher", "lower"] | int | None
    """Which values are better. A number is the value of the true object: closer values are better.
    ``None`` means that no value is better than another."""
    text: str
    """What the measure is, its unit and range, and which value is good, for readers of a report."""


_NATS = "in nats, from 0 to ln(views), which is 2.77 for 16 views"
MEASURES = {
    "IQ": Meaning(
        "lower",
        "How unclear it is which side of the object a single view shows: the entropy of its pose, "
        f"averaged over the views, {_NATS}. Lower is better.",
    ),
    "IV": Meaning(
        "higher",
        "How evenly the views together show all sides of the object: the entropy of the pose over "
        f"all views, {_NATS}. Higher is better.",
    ),
    "IG": Meaning(
        "higher",
        "MI divided by IQ: a number without a unit, from 0 upwards. Higher is better. It is left "
        f"out where IQ is below {SURE:g}, as the side is then clear in every view.",
    ),
    "MI": Meaning(
        "higher",
        "How much a view tells about the side that it was taken from: the mutual information "
        f"IV - IQ, {_NATS}. Higher is better; 0 means that all views look alike.",
    ),
    "faces": Meaning(
        1,
        "How many separate fronts there are around the object: a whole number. 1 is right; 0 means "
        "that it has no front at all.",
    ),
    "front_share": Meaning(
        None,
        "How many views look like the front, divided by how many do around the true object: from 0 "
        "to 4. 1 or slightly more is right; 4 means that every view looks like the front.",
    ),
    "janus": Meaning(
        False,
        "Whether the object has the Janus problem: yes if faces is not 1 or front_share is above "
        f"{JANUS_SHARE:g}. The right answer is no.",
    ),
    "psnr_aligned": Meaning(
        "higher",
        "How close the views are to those of the true object, turned so that they fit best: the "
        f"peak signal-to-noise ratio in dB, at most {BEST_DB:g}. Higher is better.",
    ),
    "recognised": Meaning(
        "higher",
        "The share of views that look more like the object of the prompt than like a figurine of "
        "any other kind or colour: from 0 to 1. Higher is better.",
    ),
    "rotation_deg": Meaning(
        None,
        "Where the front of the object is: its azimuth in degrees, from -180 to 180. No value is "
        "better than another, as the prompt does not say where the front should be.",
    ),
}
"""Every measure, in the order in which they are reported."""


def measure_scene(
    render: Callable[[Cameras, Float[Tensor, "b 3"]], Images],
    prompt: str,
    config: Measure,
    orbit: Orbit,
) -> dict[str, float | int | bool | None] | None:
    """Measure a scene, or return ``None`` if ``prompt`` does not describe a figurine.

    Args:
        render: renders the scene for cameras on the CPU and one background for each.
        prompt: what the scene should be.
        config: the number of views and their elevation.
        orbit: the views have the middle of its ranges of distance and field of view, and its size.

    Returns:
        The same as ``measure_views``.
    """
    asked = parse(prompt)
    if asked is None:
        return None
    backgrounds = torch.full((config.views, 3), BACKGROUND)
    images = render(orbit.turntable(config.views, config.elevation), backgrounds)
    return measure_views(images, backgrounds, *asked, orbit, config.elevation)


@torch.no_grad()
def pose_entropies(
    render: Callable[[Cameras, Float[Tensor, "b 3"]], Images],
    prompt: str,
    config: Measure,
    orbit: Orbit,
) -> dict[str, float | None] | None:
    """Return only ``IQ IV IG MI``, in a hundredth of the time, for use during a run.

    The values agree with ``measure_scene`` to 0.1 nats, because the rotation of the scene is found
    only to a step between templates.
    """
    asked = parse(prompt)
    if asked is None:
        return None
    backgrounds = torch.full((config.views, 3), BACKGROUND)
    images = render(orbit.turntable(config.views, config.elevation), backgrounds)
    truth = Truth(*asked, orbit, config.elevation)
    _, to_own = truth.compared(images, backgrounds, FINER * config.views)
    return pose_measures(pose_posterior(to_own, _best_rotation(to_own)))


@torch.no_grad()
def measure_views(
    images: Images,
    backgrounds: Float[Tensor, "b 3"],
    kind: str,
    colour: str,
    orbit: Orbit,
    elevation: float = 15.0,
) -> dict[str, float | int | bool | None]:
    """Measure a scene from its views at equal steps of azimuth, the first at 0.

    Except ``rotation_deg``, no measure depends on which way the scene faces, but ``front_share``
    may vary by one view. A view that is closer to its plain background than to any template is
    blank: it is neither a front view nor recognised.

    Args:
        images: square images. They are clamped to [0, 1], as on a screen.
        backgrounds: the RGB background of each view.
        kind: the kind of the figurine in the prompt.
        colour: the colour of the figurine in the prompt.
        orbit: the cameras had the middle of its ranges of distance and field of view.
        elevation: the elevation of the cameras in degrees.

    Returns:
        A dictionary with these keys:

        - ``IQ``, ``IV``, ``IG``, ``MI``: see ``pose_measures``.
        - ``faces``, ``front_share``: see ``count_faces`` and the function ``front_share``.
        - ``janus``: whether faces is not 1 or front_share is above 1.5.
        - ``psnr_aligned``: the PSNR in dB of all views together, compared with the true object
          after the best rotation.
        - ``recognised``: the share of views whose closest template, among all figurines and
          colours, is of the right figurine, however far it is. A plain ball may be closest to the
          right figurine. Only ``janus`` and ``MI`` then show that it is none.
        - ``rotation_deg``: the azimuth in (-180, 180] that the front of the scene faces if the
          scene is the true object rotated.

    Raises:
        KeyError: the kind or the colour does not exist.
    """
    images, backgrounds = images.float().cpu().clamp(0, 1), backgrounds.float().cpu()
    views, truth = len(images), Truth(kind, colour, orbit, elevation)
    small, to_own = truth.compared(images, backgrounds, FINER * views)

    rotation = _refine(_best_rotation(to_own), 360 / (FINER * views), truth, small, backgrounds)
    looks_deg = to_own.argmin(1).double() * (360 / (FINER * views))

    to_all = templates(KINDS, COARSE, orbit, elevation, small.shape[-1])
    nearest, figurine = to_all.distances(small, backgrounds).amin(-1).flatten(1).min(1)
    blank = (small - backgrounds[:, :, None, None]).square().mean((1, 2, 3)) <= nearest
    is_own = (figurine == KINDS.index(kind) * len(COLOURS) + list(COLOURS).index(colour)) & ~blank

    faces, share = count_faces(looks_deg, blank), front_share(looks_deg, blank)
    aligned = truth.views(rotation, backgrounds, images.shape[-1])
    found: dict[str, float | int | bool | None] = {
        **pose_measures(pose_posterior(to_own, rotation)),
        "faces": faces,
        "front_share": share,
        "janus": verdict(faces, share) != VERDICTS[0],
        "psnr_aligned": _psnr(images, aligned),
        "recognised": float(is_own.double().mean()),
        "rotation_deg": 180 - (180 - rotation) % 360,
    }
    return {name: round(v, 4) if isinstance(v, float) else v for name, v in found.items()}


def _best_rotation(distances: Float[Tensor, "views templates"]) -> float:
    """Return the rotation in degrees that fits all views best, to a step between templates."""
    views, count = distances.shape
    view, turn = torch.arange(views), torch.arange(count)
    # View k of the true object rotated by r templates shows what it showed r templates earlier.
    shown = (view[:, None] * (count // views) - turn) % count
    return float(distances.gather(1, shown).sum(0).argmin()) * 360 / count


def _refine(
    rotation: float, step: float, truth: Truth, images: Images, backgrounds: Float[Tensor, "b 3"]
) -> float:
    """Refine ``rotation`` by moving to the better side while halving the ``step``, in degrees."""

    def off(degrees: float) -> float:
        seen = truth.views(degrees, backgrounds, images.shape[-1], quick=True)
        return float((seen - images).square().mean())

    best = off(rotation)
    for _ in range(HALVINGS):
        step /= 2
        value, side = min((off(rotation - step), -step), (off(rotation + step), step))
        if value < best:
            best, rotation = value, rotation + side
    return rotation


def _psnr(images: Images, truth: Images) -> float:
    error = float((images - truth).double().square().mean())
    return -10 * math.log10(max(error, 10 ** (-BEST_DB / 10)))
