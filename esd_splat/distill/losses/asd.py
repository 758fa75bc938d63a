"""Asynchronous score distillation (Ma et al., ScaleDreamer, arXiv:2407.02040)."""

from dataclasses import dataclass

from typing_extensions import override

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.errors import check
from esd_splat.types import Latents, Timesteps


@dataclass(frozen=True)
class Asd(ScoreDistillation):
    """VSD without a particle: the frozen teacher at a later timestep takes its place.

    A network predicts noise the better the more of it there is. What a particle would learn, to
    predict the renderings' noise better than the teacher does, is had from the teacher itself by
    showing it the same latents and noise a little later.
    """

    shift: float = 0.1
    """How much later, as a share of the timestep itself, in [0, 1]; ScaleDreamer's plus_ratio, that
    is of the timestep less its lower bound."""

    def __post_init__(self) -> None:
        check(self, {"shift": (0 <= self.shift <= 1, "in [0, 1]")})

    @override
    def later(self, t: Timesteps, T: int) -> Timesteps:
        return (t + (self.shift * t).round().long()).clamp(max=T - 1)

    @override
    def direction(self, teacher: Latents, teacher_later: Latents) -> Latents:
        """The guided teacher at its timestep, less the unguided one at the later timestep."""
        return teacher - teacher_later
