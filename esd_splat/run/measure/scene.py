"""The measures of one finished scene: it is photographed from all around and held to the truth."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.config import Measure
from esd_splat.figurines import COLOURS, KINDS, parse
from esd_splat.run.measure.faces import JANUS_SHARE, count_faces, front_share
from esd_splat.run.measure.posterior import FINER, SURE, pose_measures, pose_posterior
from esd_splat.run.measure.truth import BACKGROUND, Truth, templates
from esd_splat.scene.cameras import Cameras, Orbit
from esd_splat.types import Images

COARSE = 16
"""Templates per turn and prompt, for the question which figurine it is."""
HALVINGS = 5
"""Of a template's step, in the search for the rotation: ends within 0.4 degrees at 16 views."""
BEST_DB = 100.0
"""Reported where the views equal the truth exactly."""


@dataclass(frozen=True)
class Meaning:
    """What a measure tells."""

    better: Literal["higher", "lower"] | int | None
    """Which value is the better one: a number is the truth's, and nearer to it is better; ``None``
    where no value is better than another."""
    text: str
    """For the reader of a report: what it is, its unit and range, and which value is good."""


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
    """The measures of the scene that ``render`` draws, or ``None`` if ``prompt`` is no figurine.

    Args:
        render: the scene from cameras (on the CPU) over one background each.
        prompt: what the scene should be.
        config: from where it is looked at.
        orbit: whose mid distance, mid field of view and size the views have.

    Returns:
        As ``measure_views``.
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
    """``IQ IV IG MI`` alone, in a hundredth of the time: what a run can afford while it goes.

    As ``measure_scene``, to 0.1 nats: the scene's rotation is searched to a template's step only.
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
    """Measures of a scene from its views at equal steps of azimuth, the first at 0.

    Nothing here depends on which way the scene faces, but for one view of ``front_share``. A view
    that is nearer to its plain background than to any template counts as blank: neither a front nor
    recognised.

    Args:
        images: square; of another range than [0, 1] they are clamped as a screen would.
        backgrounds: RGB behind each view.
        kind: of the figurine that was asked for.
        colour: its colour.
        orbit: whose mid distance and field of view the cameras had.
        elevation: of the cameras, degrees.

    Returns:
        ``IQ IV IG MI`` of the pose posterior, see ``pose_measures``; ``faces``, see
        ``count_faces``; ``front_share``, see there; ``janus``, whether faces is not 1 or
        front_share above 1.5; ``psnr_aligned``, in dB, of all views together against the truth
        after the best rotation; ``recognised``, the share of views whose best template over all
        figurines and colours, however bad, is of the one asked for: a plain ball may be nearest
        to some figurine, and only ``janus`` and MI then say that it is none; ``rotation_deg``, the
        azimuth in (-180, 180] that the scene's front faces if it is the truth rotated.

    Raises:
        KeyError: no such kind or colour.
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
        "janus": faces != 1 or share > JANUS_SHARE,
        "psnr_aligned": _psnr(images, aligned),
        "recognised": float(is_own.double().mean()),
        "rotation_deg": 180 - (180 - rotation) % 360,
    }
    return {name: round(v, 4) if isinstance(v, float) else v for name, v in found.items()}


def _best_rotation(distances: Float[Tensor, "views templates"]) -> float:
    """Degrees by which the truth is turned to be nearest to all views, to a template's step."""
    views, count = distances.shape
    view, turn = torch.arange(views), torch.arange(count)
    # View k of the truth turned by r templates shows what the truth does r templates before.
    shown = (view[:, None] * (count // views) - turn) % count
    return float(distances.gather(1, shown).sum(0).argmin()) * 360 / count


def _refine(
    rotation: float, step: float, truth: Truth, images: Images, backgrounds: Float[Tensor, "b 3"]
) -> float:
    """The best rotation between templates ``step`` degrees apart: to the better side, in halves."""

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
