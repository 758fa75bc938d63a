"""Variational score distillation (Wang et al., ProlificDreamer, arXiv:2305.16213)."""

from typing_extensions import override

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.settings.schema import section
from esd_splat.types import Latents


@section
class Vsd(ScoreDistillation):
    """A LoRA trained on the renderings supplies their camera-conditioned score."""

    @override
    def direction(self, teacher: Latents, lora: Latents) -> Latents:
        """Return the descent direction on the clean latents: the guided teacher minus the LoRA."""
        return teacher - lora
