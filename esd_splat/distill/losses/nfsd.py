"""Noise-free score distillation (Katzir et al., arXiv:2310.17590)."""

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.settings.schema import Field, section
from esd_splat.types import Latents

LOW_NOISE = 0.2
"""Fraction of T below which the teacher's own prediction holds no noise worth removing."""


@section
class Nfsd(ScoreDistillation):
    """Guidance, and a step into the domain of good images, without the noise that is in SDS.

    The prediction for the empty prompt is split into noise, which is dropped, and the way to
    better images: what it says against the negative prompt, or, at low noise, all of it. Set
    ``negative_prompt`` to what bad images are; left empty, high noise levels have guidance only.
    ``teacher.guidance_scale`` does not count: ``guidance_scale`` here does.
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
        """``domain + s (cond - empty)``; domain is ``empty``, less ``negative`` above 0.2 T."""
        domain = torch.where(level < LOW_NOISE, teacher_empty, teacher_empty - teacher_negative)
        return domain + self.guidance_scale * (teacher_cond - teacher_empty)
