"""Score debiasing (Debiased-SDS, Hong et al., arXiv:2303.15413): limiting the gradient."""

from esd_splat.errors import refuse
from esd_splat.settings.schema import Field, section
from esd_splat.types import Latents


@section
class Clamp:
    """Limits each element of the gradient on the latents to [-c, c], for any loss.

    Views that the teacher finds unlikely get the largest gradients, towards views that it prefers.
    A small ``c`` at first keeps these gradients from deciding where the front is. A larger ``c``
    later lets detail in. Debiased-SDS and threestudio raise it from 0.5 to 2, at a guidance scale
    of 100. Without guidance hardly any element is that large, so only smaller limits have an
    effect.

    The limit applies to ``w(t) * direction``, AFTER the weight of the timestep, as in threestudio's
    ``grad_clip``. Both are in units of the latents, whose standard deviation is about 1.
    """

    start: float | None = Field(default=None, gt=0)
    """The limit c before the first step. Null, for both start and end, sets no limit. Debiased-SDS
    uses 0.5."""
    end: float | None = Field(default=None, gt=0)
    """The limit c after the last step; it changes linearly in between. Debiased-SDS uses 2."""

    def __post_init__(self) -> None:
        if (self.start is None) != (self.end is None):
            given, missing = ("end", "start") if self.start is None else ("start", "end")
            refuse([f"{missing}: must be given together with {given}, or neither of them"])

    def limit(self, progress: float) -> float | None:
        """Return ``c`` at ``progress``, a fraction of the run in [0, 1], or ``None`` if off."""
        if self.start is None or self.end is None:
            return None
        return self.start + progress * (self.end - self.start)

    def apply(self, gradient: Latents, progress: float) -> Latents:
        """Return ``gradient`` clamped to the limit, or as it is if there is none."""
        c = self.limit(progress)
        return gradient if c is None else gradient.clamp(-c, c)
