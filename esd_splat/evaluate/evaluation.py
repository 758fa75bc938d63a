"""The evaluation of one run: what is measured on its scene, and what a judge says of it."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat import __version__
from esd_splat.config import Config
from esd_splat.evaluate.views import look
from esd_splat.run.measure import measure_scene
from esd_splat.run.measure.consistency import consistency
from esd_splat.run.measure.faces import verdict
from esd_splat.run.measure.floaters import floaters
from esd_splat.run.measure.front import front_azimuth
from esd_splat.run.measure.judges import Judge, colours, judge_views, surfaces
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import contributions, rasterize, resolve_backend
from esd_splat.show.pages import Run
from esd_splat.types import Images

GENERATOR = "esd_splat.evaluate"
VIEWS = 16
"""The number of views around the scene."""
SIZE = 256
"""Width and height in pixels of the views in which consistency and floaters are measured. A judge
chooses its own size."""
PICTURES = {"colour": colours, "normals": surfaces}
"""What a judge is shown, and what takes such pictures of a figurine, for its agreement. Paint does
not pass for shape in pictures of normals."""


@dataclass(frozen=True)
class Subject:
    """A run to evaluate: all that is read before anything is rendered."""

    run: Run
    config: Config
    scene: Gaussians


@torch.no_grad()
def evaluate(subject: Subject, judge: Judge | None, device: torch.device) -> dict[str, Any]:
    """Measure the scene of a run.

    Args:
        subject: the run.
        judge: tells which side each view shows, or ``None`` for measures that need no judge.
        device: where to render.

    Returns:
        A dictionary with these keys, which can be written as JSON:

        - ``run``, ``prompt``, ``seed``, ``teacher``: which run it is.
        - ``truth``: what ``measure_views`` returns and the ``verdict`` of it, or ``None`` if the
          true object is not known.
        - ``judged``: for each of ``PICTURES``, what ``judge_views`` returns; empty without a judge.
        - ``front_deg``: the front that the judge found in the colours, or ``None``.
        - ``consistency``, ``shared``: see ``Consistency``.
        - ``floaters``: the share of the light that comes from outside of the main body.
    """
    run, config = subject.run, subject.config
    scene = subject.scene.map(lambda value: value.to(device))
    backend = resolve_backend("auto", device.type)

    def ring(size: int) -> Cameras:
        return config.cameras.turntable(VIEWS, config.measure.elevation, size).to(device)

    views = look(scene, ring(SIZE), backend)
    agreeing = consistency(views.images, views.depths, views.cameras)
    light = contributions(scene, ring(SIZE), backend)
    judged, front = {}, None
    if judge is not None:
        small = views if judge.size == SIZE else look(scene, ring(judge.size), backend)
        for name, images in zip(PICTURES, (small.images, small.normals), strict=True):
            generator = torch.Generator().manual_seed(0)
            judged[name] = judge_views(judge, images, config.prompt, generator)
        front = _front(judged["colour"])
    return {
        "generator": GENERATOR,
        "version": __version__,
        "run": str(run.folder),
        "prompt": config.prompt,
        "seed": config.seed,
        "teacher": teacher_of(config),
        "truth": _truth(subject, scene, backend),
        "judged": judged,
        "front_deg": front,
        "consistency": agreeing.difference,
        "shared": agreeing.shared,
        "floaters": floaters(scene, light),
    }


def teacher_of(config: Config) -> str:
    """Return the model and LoRAs of a run's teacher, which its distribution of images depends on.

    View words and guidance are settings of a method, and leave the teacher what it is.
    """
    teacher = config.teacher
    parts = [getattr(teacher, "model", type(teacher).__name__), *getattr(teacher, "lora", ())]
    return " + ".join(str(part) for part in parts)


def _front(judged: dict[str, Any]) -> float | None:
    """Return the front that ``judge_views`` found. Blank views have none."""
    shown = torch.tensor([side is not None for side in judged["sides"]])
    return front_azimuth(torch.tensor(judged["probabilities"]) * shown[:, None])


def _truth(subject: Subject, scene: Gaussians, backend: str) -> dict[str, Any] | None:
    """Return the measures that the run has, or measure an unfinished run of a figurine."""
    config = subject.config
    found: dict[str, Any] | None = dict(subject.run.measures)
    if "faces" not in found or "front_share" not in found:
        if not config.teacher.vocabulary:
            return None

        def render(cameras: Cameras, backgrounds: Float[Tensor, "b 3"]) -> Images:
            device = scene.means.device
            render = rasterize(scene, cameras.to(device), backgrounds.to(device), backend)
            return render.images.clamp(0, 1).cpu()

        found = measure_scene(render, config.prompt, config.measure, config.cameras)
    return found and {"verdict": verdict(found["faces"], found["front_share"]), **found}
