"""Noise that a scene's views are taken to by the teacher itself, instead of noise that is drawn."""

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
    """DDIM inversion: the deterministic path of a diffusion model, walked from its images to noise.

    Where drawn noise asks each view for something else in every step, inverted noise asks for
    nearly the same again, so detail adds up instead of being averaged away.
    """

    steps: int
    """Steps of the path, at least 1; each is a pass through the network for every view."""
    guidance_scale: float
    """Of the predictions on the path: 0 is without the prompt, 1 with it, below 0 away from it."""
    last: float = 0.0
    """Length of the last of at least 2 steps, as a fraction of T, at least one timestep; 0 makes
    all of one length."""

    def times(self, t: Timesteps, T: int) -> Int[Tensor, "k b"]:
        """The timesteps of the path of each view, from 0 to ``t``; ``k`` is ``steps + 1``."""
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
        """The noisy latents at ``t``, and the prediction of the last step to them.

        Args:
            eps: the noise prediction to walk along.
            clean: where the path starts.
        """
        noisy, predicted = clean, torch.zeros_like(clean)
        times = self.times(t, len(alphas_cumprod))
        for now, then in itertools.pairwise(times):
            predicted = eps(noisy, now)
            noisy = ddim_step(noisy, predicted, alphas_cumprod, now, then)
        return noisy, predicted
