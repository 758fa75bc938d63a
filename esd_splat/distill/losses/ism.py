"""Interval score matching (Liang et al., LucidDreamer, arXiv:2311.11284)."""

from dataclasses import dataclass

from typing_extensions import override

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.distill.losses.inversion import Inversion
from esd_splat.errors import check
from esd_splat.types import Latents


@dataclass(frozen=True)
class Ism(ScoreDistillation):
    """The teacher with the prompt against itself without it, one interval back on a DDIM path.

    The noisy latents come from the view by DDIM inversion without the prompt, in long steps and one
    short one at the end. Their ``teacher.guidance_scale`` is 7.5.
    """

    steps: int = 5
    """Of the inversion, the short one included, at least 2; theirs are 0.2 T long, so up to 6."""
    interval: float = 0.05
    """Length of the last step, as a fraction of T, in (0, 1), at least one timestep; theirs."""

    def __post_init__(self) -> None:
        checks = {
            "steps": (self.steps >= 2, "at least 2, a long and a short one"),
            "interval": (0 < self.interval < 1, "in (0, 1)"),
        }
        check(self, checks)

    @property
    @override
    def inversion(self) -> Inversion:
        return Inversion(self.steps, guidance_scale=0.0, last=self.interval)

    @override
    def direction(self, teacher: Latents, inverted: Latents) -> Latents:
        """The guided teacher at ``t``, less the prediction that the last step to ``t`` took."""
        return teacher - inverted
