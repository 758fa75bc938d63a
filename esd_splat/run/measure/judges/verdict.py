"""What a judge finds in the views of a scene from all around: faces, and their share."""

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from esd_splat.run.measure.faces import count_faces, front_share, verdict
from esd_splat.run.measure.judges.base import SIDES, Judge
from esd_splat.types import Images

LOOKS_DEG = (0.0, 90.0, 180.0)
"""The azimuth that stands for each of ``SIDES``. A judge cannot tell left from right."""
BLANK = 2 / 255
"""A view whose values differ by less in every channel shows nothing."""


def judge_views(
    judge: Judge, images: Images, prompt: str, generator: torch.Generator
) -> dict[str, Any]:
    """Return what a judge finds in the views of a scene.

    Args:
        judge: the judge.
        images: square views at equal steps of azimuth, once around the object. At least 8.
        prompt: what they should show.
        generator: a CPU generator, for a judge that draws noise.

    Returns:
        A dictionary with these keys:

        - ``judge``: the name of the judge.
        - ``sides``: for each view, one of ``SIDES`` or, if it shows nothing, ``None``.
        - ``probabilities``: for each view, the probability of each of ``SIDES``.
        - ``faces``, ``front_share``: see ``count_faces`` and the function ``front_share``.
        - ``verdict``: one of ``VERDICTS``.

    Raises:
        PromptError: the judge does not know a word of the prompt.
    """
    images = images.float().cpu().clamp(0, 1)
    probabilities = judge.sides(images, prompt, generator).cpu()
    best, blank = probabilities.argmax(1), blank_views(images)
    looks = torch.tensor(LOOKS_DEG)[best]
    faces, share = count_faces(looks, blank), front_share(looks, blank)
    return {
        "judge": judge.name,
        "sides": [
            None if empty else SIDES[side]
            for side, empty in zip(best.tolist(), blank.tolist(), strict=True)
        ],
        "probabilities": [[round(p, 4) for p in row] for row in probabilities.tolist()],
        "faces": faces,
        "front_share": share,
        "verdict": verdict(faces, share),
    }


def blank_views(images: Images) -> Bool[Tensor, " b"]:
    """Return which images have the same value, to 8 bits, in all pixels of each channel."""
    flat = images.flatten(2)
    return ((flat.amax(2) - flat.amin(2)) < BLANK).all(1)
