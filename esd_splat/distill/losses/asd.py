"""Asynchronous score distillation (Ma et al., ScaleDreamer, arXiv:2407.02040)."""

from typing_extensions import override

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.settings.schema import Field, section
from esd_splat.types import Latents, Timesteps


@section
class Asd(ScoreDistillation):
    """VSD without a LoRA: the frozen teacher at a later timestep takes its place.

    A network predicts noise the better the more of it there is. What a LoRA would learn, to
    predict the renderings' noise better than the teacher does, is had from the teacher itself by
    showing it the same latents and noise a little later.
    """

    shift: float = Field(default=0.1, ge=0, le=1)
    """How much later it is asked, as a fraction of the timestep itself. ScaleDreamer's plus_ratio
    is a fraction of the timestep minus its lower bound."""

    @override
    def later(self, t: Timesteps, T: int) -> Timesteps:
        return (t + (self.shift * t).round().long()).clamp(max=T - 1)

    @override
    def direction(self, teacher: Latents, teacher_later: Latents) -> Latents:
        """The guided teacher at its timestep, less the unguided one at the later timestep."""
        return teacher - teacher_later
