"""The base class of score-distillation losses, and how a direction becomes a gradient."""

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
        *("lora", "lora_null", "lora_empty", "pooled"),
        "level",
    }
)
"""Everything that the trainer can supply, by the name under which a loss asks for it.

- ``noise``: the noise in the noisy latents.
- ``teacher``: the teacher's prediction for the prompt, with guidance.
- ``teacher_cond``, ``teacher_empty``, ``teacher_negative``: the teacher's predictions for the
  prompt, the empty prompt and the negative prompt, without guidance.
- ``teacher_later``: like ``teacher_cond``, but for the same clean latents and noise at the timestep
  of ``ScoreDistillation.later``.
- ``lora``, ``lora_null``: the LoRA's predictions with the camera, and with it dropped.
- ``lora_empty``: like ``lora_null``, but for the empty prompt.
- ``pooled``: the prediction of the ``Pool`` of recent views.
- ``inverted``: the prediction that the last step on the path of ``Inversion`` used.
- ``level``: the timestep as a fraction of T.

All predictions but ``teacher_later`` and ``inverted`` are for the noisy latents at their timestep.
"""


class ScoreDistillation:
    """Maps noise predictions to a descent direction on the latents.

    A subclass is a frozen dataclass whose fields are its configuration. Its ``direction`` takes
    noise predictions *by name*. The names of its parameters declare what the trainer must evaluate,
    so a loss that does not ask for the LoRA never pays for it.
    """

    takes: ClassVar[frozenset[str]]
    """What ``direction`` of this class accepts, whatever its configuration."""
    direction: Callable[..., Latents]

    @property
    def inversion(self) -> Inversion | None:
        """How the noise in the noisy latents is found, or ``None`` (the default) if it is drawn."""
        return None

    def later(self, t: Timesteps, T: int) -> Timesteps:
        """Return the timestep of ``teacher_later``, in ``t .. T - 1``. Only some losses use it."""
        return t

    @property
    def needs(self) -> frozenset[str]:
        """What ``direction`` of this instance reads. The trainer evaluates nothing else.

        By default it is all that the class takes. A subclass can name less for configurations that
        do not need everything.
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
    """Return a scalar whose gradient with respect to ``latents`` is ``direction / b``.

    Score distillation defines a gradient, not a loss, but autograd needs a scalar to start from.
    The value of the scalar means nothing; log the norm of ``direction`` instead. It is an inner
    product rather than ``0.5 * ||x - sg(x - d)||^2``, because the latter rounds ``d`` away in half
    precision when ``|d|`` is far below ``|x|``.

    Args:
        latents: the latents that should get the gradient, ``b`` of them.
        direction: the direction, already weighted by timestep. No gradient flows into it.
    """
    # In float16 the sum over a 4 x 64 x 64 latent can exceed 65504, as if the run had diverged.
    wide = torch.promote_types(latents.dtype, torch.float32)
    return (latents * direction.detach()).sum(dtype=wide) / latents.shape[0]
