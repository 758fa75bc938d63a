"""Asynchronous score distillation (Ma et al., ScaleDreamer, arXiv:2407.02040)."""

from typing_extensions import override

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.settings.schema import Field, section
from esd_splat.types import Latents, Timesteps


@section
class Asd(ScoreDistillation):
    """VSD without a LoRA: the frozen teacher at a later timestep takes its place.

    A network predicts noise more accurately at higher noise levels. A LoRA would learn to predict
    the noise of the renderings better than the teacher does. The teacher itself does so if it is
    given the same latents and noise at a slightly later timestep.
    """

    shift: float = Field(default=0.1, ge=0, le=1)
    """How much later the timestep of the teacher's second prediction is, as a fraction of the first
    timestep. ScaleDreamer's plus_ratio is a fraction of the timestep minus its lower bound."""

    @override
    def later(self, t: Timesteps, T: int) -> Timesteps:
        return (t + (self.shift * t).round().long()).clamp(max=T - 1)

    @override
    def direction(self, teacher: Latents, teacher_later: Latents) -> Latents:
        """Return the guided teacher at its timestep minus the unguided one at the later one."""
        return teacher - teacher_later
