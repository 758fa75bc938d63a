"""Score distillation sampling (Poole et al., DreamFusion, arXiv:2209.14988)."""

from typing_extensions import override

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.settings.schema import section
from esd_splat.types import Latents


@section
class Sds(ScoreDistillation):
    """The drawn noise stands in for the score of the renderings.

    It is exactly what a perfect camera-conditioned LoRA would predict, so this is VSD without
    training.
    """

    @override
    def direction(self, teacher: Latents, noise: Latents) -> Latents:
        """Return the descent direction on the clean latents: the guided teacher minus the noise."""
        return teacher - noise
