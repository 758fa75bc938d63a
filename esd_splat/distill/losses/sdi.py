"""Score distillation via inversion (Lukoianov et al., arXiv:2405.15891)."""

from dataclasses import dataclass

from typing_extensions import override

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.distill.losses.inversion import Inversion
from esd_splat.errors import check
from esd_splat.types import Latents


@dataclass(frozen=True)
class Sdi(ScoreDistillation):
    """SDS whose noise is not drawn: it is the one from which the teacher would make this view.

    It is found by DDIM inversion with the prompt, without the fresh noise that theirs adds on the
    way. Their timesteps come down over the run
    (``timesteps.schedule=sqrt``, with ``min_start`` and ``max_end`` null), and
    ``teacher.guidance_scale`` is 7.5.
    """

    steps: int = 10
    """Of the inversion, at least 1; theirs."""
    guidance_scale: float = -7.5
    """Of the inversion, in [-1000, 1000]; theirs, the negative of the teacher's."""

    def __post_init__(self) -> None:
        checks = {
            "steps": (self.steps >= 1, "at least 1"),
            "guidance_scale": (-1000 <= self.guidance_scale <= 1000, "in [-1000, 1000]"),
        }
        check(self, checks)

    @property
    @override
    def inversion(self) -> Inversion:
        return Inversion(self.steps, self.guidance_scale)

    @override
    def direction(self, teacher: Latents, noise: Latents) -> Latents:
        """Descent direction on the clean latents, of the guided teacher and the found noise."""
        return teacher - noise
