"""ESD whose entropy weight moves while a run goes on: by schedule, or to hold an information."""

from dataclasses import dataclass

from typing_extensions import override

from esd_splat.losses.base import ScoreDistillation
from esd_splat.types import Latents


@dataclass(frozen=True)
class ScheduledEsd(ScoreDistillation):
    """ESD with drawn noise and pool; its entropy weight goes linearly from one value to another."""

    start: float = 1.0
    """Entropy weight at the first step."""
    end: float = 1.0
    """Entropy weight after the last."""

    @override
    def direction(
        self, teacher: Latents, noise: Latents, pooled: Latents, progress: float
    ) -> Latents:
        """``teacher - noise.lerp(pooled, w)``, with ``w`` after a share ``progress`` of the run."""
        return teacher - noise.lerp(pooled, self.start + progress * (self.end - self.start))


@dataclass(frozen=True)
class HeldEsd(ScoreDistillation):
    """ESD with drawn noise and pool, more of it while noised views tell little of their camera.

    A proportional controller: ``w = clamp(weight + gain (target - information), 0, 4)``.
    """

    weight: float = 1.0
    """Entropy weight where the information is on target."""
    gain: float = 2.0
    """How far the weight moves for the whole range of the information."""
    target: float = 0.7
    """Information of the noised views about which of the pool they are, over its maximum."""

    @override
    def direction(
        self, teacher: Latents, noise: Latents, pooled: Latents, information: float
    ) -> Latents:
        """``information`` is in [0, 1]."""
        w = self.weight + self.gain * (self.target - information)
        return teacher - noise.lerp(pooled, min(max(w, 0.0), 4.0))
