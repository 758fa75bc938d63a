"""What every score-distillation objective is, and how its direction becomes a gradient."""

import inspect
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.distill.losses.inversion import Inversion
from esd_splat.types import Latents, Timesteps

PREDICTIONS = frozenset(
    {
        *("noise", "inverted"),
        *("teacher", "teacher_cond", "teacher_empty", "teacher_negative", "teacher_later"),
        *("lora", "lora_null", "pooled"),
        "level",
    }
)
"""Everything that the trainer can supply, by the name a loss asks for it.

The ``noise`` in the noisy latents, and what is predicted from these at their timestep: by the
``teacher`` with guidance, by the teacher for the prompt (``teacher_cond``), for the empty and for
the negative prompt, by the LoRA with its camera, by the LoRA with the camera dropped, and
by the ``Pool`` of recent views. ``teacher_later`` is for the prompt at ``ScoreDistillation.later``,
from the same latents and noise; ``inverted`` the last prediction on the path of ``Inversion``.
``level`` is no prediction but the timestep, as a fraction of T."""


class ScoreDistillation:
    """Maps noise predictions to a descent direction on the latents.

    A subclass is a frozen dataclass: its fields are its configuration. Its ``direction`` takes
    noise predictions *by name*; those parameter names are the declaration of what the trainer
    must evaluate, so a loss that does not ask for the LoRA never pays for it.
    """

    takes: ClassVar[frozenset[str]]
    """What ``direction`` of this class accepts, whatever its configuration."""
    direction: Callable[..., Latents]

    @property
    def inversion(self) -> Inversion | None:
        """How the noise in the noisy latents is found; ``None``, unless a subclass says: drawn."""
        return None

    def later(self, t: Timesteps, T: int) -> Timesteps:
        """The timestep of ``teacher_later``, within ``t .. T - 1``; of no use to other losses."""
        return t

    @property
    def needs(self) -> frozenset[str]:
        """What ``direction`` of this instance reads; the trainer evaluates nothing else.

        All that the class takes, unless a subclass knows of a configuration that can do with less.
        """
        return self.takes

    def __init_subclass__(cls) -> None:
        asked = frozenset(inspect.signature(cls.direction).parameters) - {"self"}
        if unknown := asked - PREDICTIONS:
            raise TypeError(
                f"{cls.__name__}.direction asks for {sorted(unknown)}; "
                f"the trainer can evaluate {sorted(PREDICTIONS)}"
            )
        cls.takes = asked


def surrogate_loss(latents: Latents, direction: Latents) -> Float[Tensor, ""]:
    """Scalar whose gradient with respect to ``latents`` is ``direction / b``.

    Score distillation defines a gradient, not a loss: this is the handle autograd needs, and its
    value means nothing (log the norm of ``direction`` instead). The inner product is used rather
    than ``0.5 * ||x - sg(x - d)||^2`` because the latter rounds ``d`` away in half precision when
    ``|d|`` is far below ``|x|``.

    Args:
        latents: what the gradient should reach.
        direction: weighted by timestep already; no gradient flows into it.
    """
    # A float16 sum over a 4 x 64 x 64 latent can pass 65504 and look like a diverged run.
    wide = torch.promote_types(latents.dtype, torch.float32)
    return (latents * direction.detach()).sum(dtype=wide) / latents.shape[0]
