"""Noise-free score distillation (Katzir et al., arXiv:2310.17590)."""

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.settings.schema import Field, section
from esd_splat.types import Latents

LOW_NOISE = 0.2
"""Fraction of T below which the prediction for the empty prompt has hardly any noise to remove."""


@section
class Nfsd(ScoreDistillation):
    """Guidance, and a step into the domain of good images, without the noise that is in SDS.

    The prediction for the empty prompt is split into noise, which is dropped, and a direction
    towards better images. That direction is its difference from the prediction for the negative
    prompt or, at low noise, the whole prediction. Set ``negative_prompt`` to words for bad images.
    If it is empty, only guidance is left at high noise. ``teacher.guidance_scale`` has no effect;
    ``guidance_scale`` here takes its place.
    """

    guidance_scale: float = Field(default=7.5, ge=0, le=1000)
    """Weight s of the guidance. The default is the authors' value."""

    @override
    def direction(
        self,
        teacher_cond: Latents,
        teacher_empty: Latents,
        teacher_negative: Latents,
        level: Float[Tensor, "b 1 1 1"],
    ) -> Latents:
        """Return ``domain + s (cond - empty)``.

        Below 0.2 T, ``domain`` is ``empty``. From 0.2 T on, it is ``empty - negative``.
        """
        domain = torch.where(level < LOW_NOISE, teacher_empty, teacher_empty - teacher_negative)
        return domain + self.guidance_scale * (teacher_cond - teacher_empty)
