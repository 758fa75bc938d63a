"""Classifier score distillation (Yu et al., arXiv:2310.19415)."""

from typing_extensions import override

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.settings.schema import Field, section
from esd_splat.types import Latents


@section
class Csd(ScoreDistillation):
    """Only what guidance adds: a move to the prompt, and optionally away from the negative prompt.

    This follows the gradient of an implicit classifier, ``log p(prompt | noisy)``. The score of the
    renderings themselves has no part in it, so nothing keeps views from becoming too sharp.
    ``teacher.guidance_scale`` has no effect: it would only scale the whole direction, which Adam
    cancels.
    """

    negative: float = Field(default=0.0, ge=0)
    """Weight of the move from the negative prompt to the empty one. It does nothing while
    negative_prompt is empty. The authors' schedules end at 1 for textures."""

    @property
    @override
    def needs(self) -> frozenset[str]:
        """All predictions, but the one for the negative prompt only if its weight is not 0."""
        return self.takes if self.negative else self.takes - {"teacher_negative"}

    @override
    def direction(
        self,
        teacher_cond: Latents,
        teacher_empty: Latents,
        teacher_negative: Latents | None = None,
    ) -> Latents:
        """Return ``(cond - empty) + w (empty - negative)``, where ``w`` is ``self.negative``."""
        direction = teacher_cond - teacher_empty
        if self.negative and teacher_negative is not None:
            direction = direction + self.negative * (teacher_empty - teacher_negative)
        return direction
