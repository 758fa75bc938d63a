"""What the teacher itself finds in the scene that it made, for a summary without the truth."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.config import Config
from esd_splat.errors import PromptError
from esd_splat.run.measure.judges.agreement import PICTURES, UNMEASURED, agreement
from esd_splat.run.measure.judges.teacher import TeacherJudge
from esd_splat.run.measure.judges.verdict import judge_views
from esd_splat.run.measure.truth import BACKGROUND
from esd_splat.scene.cameras import Cameras
from esd_splat.teacher import Teacher
from esd_splat.types import Images

CHEAP = 4
"""How many views a run must draw, by default, for each pass of the judge. A view costs the run
several passes and a gradient, so the judge then takes a few per cent of the run's time."""


def judged(
    render: Callable[[Cameras, Float[Tensor, "b 3"]], Images], teacher: Teacher, config: Config
) -> dict[str, Any] | None:
    """Let the teacher judge the scene that it made, and measure how far it can be trusted.

    Args:
        render: renders the scene for cameras on the CPU and one background for each.
        teacher: the teacher of the run. It is not changed.
        config: the settings of the run.

    Returns:
        ``None`` if ``measure.judge`` is false, or if it is null and judging is not cheap for this
        run. Otherwise ``judge sides faces front_share verdict`` of ``judge_views``, and as
        ``agreement`` the summary of an ``Agreement``. If the teacher does not know the words, there
        is only a ``problem``, in one line.
    """
    judge, measure = TeacherJudge(), config.measure
    passes = judge.passes * (measure.views + PICTURES)
    cheap = config.steps * config.batch >= CHEAP * passes
    if not (cheap if measure.judge is None else measure.judge):
        return None
    ready = judge.load(teacher, config.teacher)
    cameras = config.cameras.turntable(measure.views, measure.elevation)
    images = render(cameras, torch.full((measure.views, 3), BACKGROUND))
    generator = torch.Generator().manual_seed(config.seed)
    try:
        found = judge_views(ready, images, config.prompt, generator)
    except PromptError as error:
        return {"judge": ready.name, "problem": str(error)}
    try:
        known = agreement(ready, config.seed)
    except PromptError:  # a teacher whose vocabulary has no figurines
        known = UNMEASURED
    del found["probabilities"]
    return {**found, "agreement": known.summary()}
