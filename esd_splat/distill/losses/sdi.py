"""Score distillation via inversion (Lukoianov et al., arXiv:2405.15891)."""

from typing_extensions import override

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.distill.losses.inversion import Inversion
from esd_splat.settings.schema import Field, section
from esd_splat.types import Latents


@section
class Sdi(ScoreDistillation):
    """SDS whose noise is found, not drawn: it is the noise from which the teacher makes the view.

    It is found by DDIM inversion with the prompt. The authors also add fresh noise on the way,
    which is left out here. Their timesteps decrease over the run (``timesteps.schedule=sqrt``, with
    ``min_start`` and ``max_end`` null), and their ``teacher.guidance_scale`` is 7.5.
    """

    steps: int = Field(default=10, ge=1)
    """Number of steps of the inversion. The default is the authors' value."""
    guidance_scale: float = Field(default=-7.5, ge=-1000, le=1000)
    """Guidance scale of the inversion. The default is the authors' value."""

    @property
    @override
    def inversion(self) -> Inversion:
        return Inversion(self.steps, self.guidance_scale)

    @override
    def direction(self, teacher: Latents, noise: Latents) -> Latents:
        """Return the descent direction on the clean latents: the guided teacher minus the noise."""
        return teacher - noise
