"""Entropic score distillation (Wang et al., arXiv:2401.00909)."""

from dataclasses import dataclass, field

from typing_extensions import override

from esd_splat.losses.base import ScoreDistillation
from esd_splat.types import Latents

MAX_ENTROPY_WEIGHT = 4.0
"""Far above 1, where renderings already spread wider than the teacher's images (1 is exact)."""


@dataclass(frozen=True)
class Esd(ScoreDistillation):
    """VSD plus an entropy term that rewards views for differing from one another.

    The particle's part is split between a camera-conditioned and a camera-free prediction. The
    camera-free one is the score of *all* views pooled, so moving against it spreads them::

        direction = teacher - (1 - w) * particle - w * particle_uncond        w = entropy_weight

    which descends ``w KL(q(x)||p(x)) + (1 - w) E_c KL(q(x|c)||p(x))``, with ``q`` the noised
    renderings, ``c`` the camera and ``p`` the teacher.
    """

    entropy_weight: float = field(
        default=1.0, metadata={"aliases": {"guidance_scale_lora": lambda scale: 1.0 - scale}}
    )
    """Weight of the entropy of all views together (lambda), in [0, 4]: 0 is VSD, 1 fits the pooled
    views to the teacher, above 1 spreads them further than the teacher's own images. May be given
    as threestudio's ``guidance_scale_lora``, which is 1 - entropy_weight, in [-3, 1]."""

    def __post_init__(self) -> None:
        if not 0 <= self.entropy_weight <= MAX_ENTROPY_WEIGHT:
            allowed = f"[0, {MAX_ENTROPY_WEIGHT:g}]"
            raise ValueError(f"entropy_weight: must be in {allowed}, got {self.entropy_weight:g}")

    @property
    @override
    def needs(self) -> frozenset[str]:
        """At weight 0 or 1 one branch of the particle counts for nothing and is not asked for."""
        unused = {0.0: {"particle_uncond"}, 1.0: {"particle"}}
        return self.takes - unused.get(self.entropy_weight, set())

    @override
    def direction(
        self,
        teacher: Latents,
        particle: Latents | None = None,
        particle_uncond: Latents | None = None,
    ) -> Latents:
        """Descent direction on the clean latents; subtract it, or see ``surrogate_loss``.

        The arguments are noise predictions (not scores) at the same noisy latents and timestep.
        Weighting by timestep is the caller's.

        Args:
            teacher: pretrained network given the prompt, guidance scale already applied.
            particle: LoRA given the camera that rendered these latents. Not read, and may be
                left out, at ``entropy_weight`` 1.
            particle_uncond: the same LoRA with the camera dropped. Not read, and may be left
                out, at ``entropy_weight`` 0.

        Returns:
            Zero where the renderings are already as the teacher and the entropy term want them.

        Raises:
            TypeError: a prediction in ``needs`` was not given.

        Source:
            Algorithm 1 of the paper with the sign that descent needs: it prints a plus for noise
            predictions, which is right for scores only. The authors' own code agrees with us.
        """
        if self.entropy_weight == 0 and particle is not None:
            return teacher - particle
        if self.entropy_weight == 1 and particle_uncond is not None:
            return teacher - particle_uncond
        if particle is None or particle_uncond is None:
            raise TypeError(f"{self}.direction needs {', '.join(sorted(self.needs))}")
        return teacher - particle.lerp(particle_uncond, self.entropy_weight)
