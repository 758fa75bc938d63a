"""Interval score matching (Liang et al., LucidDreamer, arXiv:2311.11284)."""

from typing_extensions import override

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.distill.losses.inversion import Inversion
from esd_splat.settings.schema import Field, section
from esd_splat.types import Latents


@section
class Ism(ScoreDistillation):
    """The teacher with the prompt against itself without it, one interval earlier on a DDIM path.

    The noisy latents come from DDIM inversion of the view without the prompt, in long steps and a
    short last one. The authors' ``teacher.guidance_scale`` is 7.5.
    """

    steps: int = Field(default=5, ge=2)
    """Number of steps of the inversion, including the short one. The authors' steps are 0.2 T long,
    so they take up to 6."""
    interval: float = Field(default=0.05, gt=0, lt=1)
    """Length of the last step as a fraction of T; it is at least one timestep. The default is the
    authors' value."""

    @property
    @override
    def inversion(self) -> Inversion:
        return Inversion(self.steps, guidance_scale=0.0, last=self.interval)

    @override
    def direction(self, teacher: Latents, inverted: Latents) -> Latents:
        """Return the guided teacher at ``t`` minus the one without the prompt one step earlier."""
        return teacher - inverted
