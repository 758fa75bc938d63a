"""Noise schedules: the algebra of variance-preserving diffusion, and which timesteps to use when.

With ``a = sqrt(alphas_cumprod[t])`` and ``s = sqrt(1 - alphas_cumprod[t])``::

    noisy = a * clean + s * noise        score = -eps / s
    v     = a * noise - s * clean        eps   = a * v + s * noisy

There are no networks here. The only randomness is in ``TimestepRange.draw``, which draws from the
generator that it is given.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.errors import refuse
from esd_splat.settings.schema import Field, section
from esd_splat.types import Latents, Timesteps

AlphasCumprod = Float[Tensor, " steps"]
PerView = Float[Tensor, "b 1 1 1"]


def alpha_sigma(alphas_cumprod: AlphasCumprod, t: Timesteps) -> tuple[PerView, PerView]:
    """Return the signal and noise scales at ``t``, shaped to broadcast with latents."""
    a2 = alphas_cumprod[t].view(-1, 1, 1, 1)
    return a2.sqrt(), (1 - a2).sqrt()


def add_noise(
    clean: Latents, noise: Latents, alphas_cumprod: AlphasCumprod, t: Timesteps
) -> Latents:
    """Return the sample of ``q(x_t | x_0)`` for the given ``noise``: ``a * clean + s * noise``."""
    a, s = alpha_sigma(alphas_cumprod, t)
    return a * clean + s * noise


def velocity(
    clean: Latents, noise: Latents, alphas_cumprod: AlphasCumprod, t: Timesteps
) -> Latents:
    """Return the target of a v-prediction network (Salimans & Ho, arXiv:2202.00512)."""
    a, s = alpha_sigma(alphas_cumprod, t)
    return a * noise - s * clean


def eps_from_v(v: Latents, noisy: Latents, alphas_cumprod: AlphasCumprod, t: Timesteps) -> Latents:
    """Convert a v prediction to a noise prediction. This is the inverse of ``velocity``."""
    a, s = alpha_sigma(alphas_cumprod, t)
    return a * v + s * noisy


def ddim_step(
    noisy: Latents, eps: Latents, alphas_cumprod: AlphasCumprod, t: Timesteps, to: Timesteps
) -> Latents:
    """Take a step of deterministic DDIM (Song et al., arXiv:2010.02502) from ``t`` to ``to``.

    The clean latents and the noise that ``eps`` implies at ``t`` are combined anew at ``to``::

        clean = (noisy - s[t] * eps) / a[t]        result = a[to] * clean + s[to] * eps

    If ``to`` is above ``t``, this is a step of DDIM inversion.
    """
    a, s = alpha_sigma(alphas_cumprod, t)
    return add_noise((noisy - s * eps) / a, eps, alphas_cumprod, to)


def eps_from_flow(
    flow: Latents, noisy: Latents, alphas_cumprod: AlphasCumprod, t: Timesteps
) -> Latents:
    """Convert the output of a rectified-flow network, ``noise - clean``, to a noise prediction.

    Such a network is trained on ``(1 - u) * clean + u * noise``. With ``u = s / (a + s)``, our
    ``noisy`` is this point times ``a + s``. So the network must have been evaluated at
    ``noisy / (a + s)`` and time ``u``.
    """
    a, s = alpha_sigma(alphas_cumprod, t)
    return (noisy + a * flow) / (a + s)


@section
class TimestepRange:
    """Which timesteps are drawn in the course of a run, and how much each of them counts.

    Timesteps are drawn uniformly between two bounds, which are fractions of the teacher's ``T``
    training timesteps. High timesteps decide pose and shape, and low ones detail. What was decided
    at a low timestep is hard to undo at a high one. Therefore both bounds can decrease::

        upper = max ... max_end      linearly, while progress goes from anneal_start to anneal_end
        lower = min_start ... min    linearly, while progress goes from 0 to min_until,
                                     and never above upper
    """

    min: float = Field(default=0.02, gt=0, lt=1)
    """Lower bound, as a fraction of T."""
    min_start: float | None = Field(default=None, gt=0, lt=1)
    """Lower bound at the start, as a fraction of T, at least min and below max; null keeps it at
    min all along."""
    min_until: float = Field(default=0.6, ge=0, le=1)
    """Fraction of the run at which the lower bound has come down from min_start to min."""
    max: float = Field(default=0.98, gt=0, lt=1)
    """Upper bound at the start, as a fraction of T, above min."""
    max_end: float | None = Field(default=None, gt=0, lt=1)
    """Upper bound at the end, as a fraction of T, above min; null keeps it at max. ProlificDreamer
    ends at 0.5."""
    anneal_start: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the run after which the upper bound starts to move."""
    anneal_end: float = Field(default=1.0, ge=0, le=1)
    """Fraction of the run at which it has arrived. If it is equal to anneal_start, it jumps."""
    schedule: Literal["uniform", "sqrt", "dreamtime"] = "uniform"
    """How timesteps are chosen. uniform draws one for each view between the bounds. The others have
    one for all views that comes down from max to min: sqrt as max - (max - min) sqrt(progress)
    (HiFA, arXiv:2305.18766), dreamtime slowly between 0.8 and 0.5 T and fast elsewhere (DreamTime,
    arXiv:2306.12422)."""
    weight: Literal["sigma2", "alpha_sigma2", "uniform"] = "sigma2"
    """The weight w(t): sigma2 is 1 - alphas_cumprod (DreamFusion, ProlificDreamer, threestudio),
    alpha_sigma2 is sqrt(alphas_cumprod) times that (Fantasia3D), uniform is 1."""

    def __post_init__(self) -> None:
        problems = [
            f"{name}: must be above min = {self.min:g}, got {bound:g}"
            for name, bound in {"max": self.max, "max_end": self.max_end}.items()
            if bound is not None and bound <= self.min
        ]
        if self.min_start is not None and not self.min <= self.min_start < self.max:
            problems.append(
                f"min_start: must be in [min, max) = [{self.min:g}, {self.max:g}), "
                f"got {self.min_start:g}"
            )
        if self.schedule != "uniform":
            problems += [
                f"{name}: must be null with schedule={self.schedule}, which comes down by itself"
                for name in ("min_start", "max_end")
                if getattr(self, name) is not None
            ]
        if self.anneal_end < self.anneal_start:
            problems.append(
                f"anneal_end: must not be below anneal_start = {self.anneal_start:g}, "
                f"got {self.anneal_end:g}"
            )
        refuse(problems)

    def bounds(self, progress: float, T: int) -> tuple[int, int]:
        """Return the lowest and highest timestep, both inclusive and within ``0 .. T - 1``.

        Args:
            progress: fraction of the run that is done. Values outside of [0, 1] count as the
                nearer end.
            T: number of training timesteps of the teacher, at least 1.
        """
        end = self.max if self.max_end is None else self.max_end
        upper = self.max + _share(progress, self.anneal_start, self.anneal_end) * (end - self.max)
        start = self.min if self.min_start is None else self.min_start
        lower = start + _share(progress, 0.0, self.min_until) * (self.min - start)
        # If both bounds decrease, the lower one must not stay above the upper one.
        low, high = (min(math.floor(bound * T + 0.5), T - 1) for bound in (lower, upper))
        return min(low, high), high

    def draw(
        self,
        progress: float,
        batch: int,
        alphas_cumprod: AlphasCumprod,
        generator: torch.Generator,
    ) -> Timesteps:
        """Return ``batch`` timesteps on the generator's device.

        They are independent if ``schedule`` is uniform, and otherwise all the same.

        Args:
            progress: fraction of the run that is done, in [0, 1].
        """
        low, high = self.bounds(progress, len(alphas_cumprod))
        device = generator.device
        if self.schedule == "uniform":
            return torch.randint(low, high + 1, (batch,), generator=generator, device=device)
        if self.schedule == "sqrt":
            now = round(high - (high - low) * math.sqrt(progress))
        else:
            now = low + _dreamtime(alphas_cumprod.cpu(), low, high, progress)
        return torch.full((batch,), now, device=device)

    def weights(self, alphas_cumprod: AlphasCumprod, t: Timesteps) -> PerView:
        """Return ``w(t)``, by which the caller multiplies the direction of a loss."""
        a, s = alpha_sigma(alphas_cumprod, t)
        return {"sigma2": s**2, "alpha_sigma2": a * s**2, "uniform": torch.ones_like(s)}[
            self.weight
        ]


def _dreamtime(alphas_cumprod: AlphasCumprod, low: int, high: int, progress: float) -> int:
    """Return the timestep, minus ``low``, above which a fraction ``progress`` of the weight lies.

    DreamTime's weight of a timestep (equation 8) is its noise-to-signal ratio ``s / a`` times a
    plateau, which is 1 from 0.5 T to 0.8 T and falls off like a Gaussian, with a standard deviation
    of 0.1 T below and 0.3 T above.
    """
    ratio = ((1 - alphas_cumprod) / alphas_cumprod).sqrt()[low : high + 1].double()
    u = torch.arange(low, high + 1) / len(alphas_cumprod)
    off = torch.where(u > 0.8, (u - 0.8) / 0.3, (u - 0.5).clamp(max=0) / 0.1)
    weights = ratio * (-0.5 * off.square()).exp()
    above = weights.flip(0).cumsum(0).flip(0) / weights.sum()
    return int((above - progress).abs().argmin())


def _share(progress: float, start: float, end: float) -> float:
    """Return how far ``progress`` is from ``start`` to ``end``, in [0, 1]: a jump if they agree."""
    if progress < start:
        return 0.0
    return (progress - start) / (end - start) if progress < end else 1.0
