"""DDIM inversion: noise that the teacher finds for a view, instead of noise that is drawn."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from esd_splat.teacher.noise import AlphasCumprod, ddim_step
from esd_splat.types import Latents, Timesteps


@dataclass(frozen=True)
class Inversion:
    """DDIM inversion: the deterministic path of a diffusion model, followed from images to noise.

    Drawn noise asks a view for something different in every step. Inverted noise asks for nearly
    the same again, so detail accumulates instead of being averaged away.
    """

    steps: int
    """Number of steps of the path, at least 1. Each step is a pass through the network per view."""
    guidance_scale: float
    """Guidance scale of the predictions on the path. 0 is without the prompt, 1 is with it, and
    negative scales lead away from it."""
    last: float = 0.0
    """Length of the last of at least 2 steps, as a fraction of T. It is at least one timestep. The
    other steps have equal lengths. 0 makes all steps equal."""

    def times(self, t: Timesteps, T: int) -> Int[Tensor, "k b"]:
        """Return the timesteps of each view's path, from 0 to ``t``. ``k`` is ``steps + 1``."""
        if self.last == 0:
            shares = torch.linspace(0, 1, self.steps + 1, device=t.device)
            return (shares[:, None] * t).round().long()
        before = (t - max(1, round(self.last * T))).clamp(min=0)
        shares = torch.linspace(0, 1, self.steps, device=t.device)
        return torch.cat([(shares[:, None] * before).round().long(), t[None]])

    def walk(
        self,
        eps: Callable[[Latents, Timesteps], Latents],
        clean: Latents,
        alphas_cumprod: AlphasCumprod,
        t: Timesteps,
    ) -> tuple[Latents, Latents]:
        """Follow the path, and return the noisy latents at ``t`` and the last step's prediction.

        Args:
            eps: the noise prediction that defines the path.
            clean: the clean latents, where the path starts.
            alphas_cumprod: the noise schedule.
            t: the timesteps where the path ends.
        """
        noisy, predicted = clean, torch.zeros_like(clean)
        times = self.times(t, len(alphas_cumprod))
        for now, then in itertools.pairwise(times):
            predicted = eps(noisy, now)
            noisy = ddim_step(noisy, predicted, alphas_cumprod, now, then)
        return noisy, predicted
