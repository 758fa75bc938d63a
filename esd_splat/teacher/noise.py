"""Forward-diffusion algebra of a variance-preserving schedule, and which timesteps to use when.

With ``a = sqrt(alphas_cumprod[t])`` and ``s = sqrt(1 - alphas_cumprod[t])``::

    noisy = a * clean + s * noise        score = -eps / s
    v     = a * noise - s * clean        eps   = a * v + s * noisy

No networks; the only randomness is ``TimestepRange.draw``, from the generator it is given.
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
    """Signal and noise scales at ``t``, shaped to broadcast against latents."""
    a2 = alphas_cumprod[t].view(-1, 1, 1, 1)
    return a2.sqrt(), (1 - a2).sqrt()


def add_noise(
    clean: Latents, noise: Latents, alphas_cumprod: AlphasCumprod, t: Timesteps
) -> Latents:
    """Sample of ``q(x_t | x_0)`` for the given ``noise``."""
    a, s = alpha_sigma(alphas_cumprod, t)
    return a * clean + s * noise


def velocity(
    clean: Latents, noise: Latents, alphas_cumprod: AlphasCumprod, t: Timesteps
) -> Latents:
    """What a v-prediction network is trained to return (Salimans & Ho, arXiv:2202.00512)."""
    a, s = alpha_sigma(alphas_cumprod, t)
    return a * noise - s * clean


def eps_from_v(v: Latents, noisy: Latents, alphas_cumprod: AlphasCumprod, t: Timesteps) -> Latents:
    """Noise prediction of a v-prediction network: the inverse of ``velocity``."""
    a, s = alpha_sigma(alphas_cumprod, t)
    return a * v + s * noisy


def ddim_step(
    noisy: Latents, eps: Latents, alphas_cumprod: AlphasCumprod, t: Timesteps, to: Timesteps
) -> Latents:
    """The same clean latents and noise, as ``eps`` has them, at timestep ``to`` instead of ``t``.

    Deterministic DDIM (Song et al., arXiv:2010.02502); with ``to`` above ``t`` its inversion.
    """
    a, s = alpha_sigma(alphas_cumprod, t)
    return add_noise((noisy - s * eps) / a, eps, alphas_cumprod, to)


def eps_from_flow(
    flow: Latents, noisy: Latents, alphas_cumprod: AlphasCumprod, t: Timesteps
) -> Latents:
    """Noise prediction of a rectified-flow network, which returns ``noise - clean``.

    Such a network knows ``(1 - u) * clean + u * noise``. Our ``noisy`` is that point times
    ``a + s``, so it must have been evaluated at ``noisy / (a + s)`` and time ``u = s / (a + s)``.
    """
    a, s = alpha_sigma(alphas_cumprod, t)
    return (noisy + a * flow) / (a + s)


@section
class TimestepRange:
    """Which timesteps are drawn as a run goes on, and how much each counts.

    Timesteps are uniform between two bounds, given as fractions of the teacher's ``T`` training
    timesteps. High ones decide pose and shape, low ones detail, and whatever is decided at a low
    one is hard to take back at a high one. So both bounds may come down::

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
        """Lowest and highest timestep, both included, within ``0 .. T - 1``.

        Args:
            progress: share of the run that is done, in [0, 1]; beyond it the nearer end counts.
            T: training timesteps of the teacher, at least 1.
        """
        end = self.max if self.max_end is None else self.max_end
        upper = self.max + _share(progress, self.anneal_start, self.anneal_end) * (end - self.max)
        start = self.min if self.min_start is None else self.min_start
        lower = start + _share(progress, 0.0, self.min_until) * (self.min - start)
        # Where both come down, the lower bound must not be left above the upper one.
        low, high = (min(math.floor(bound * T + 0.5), T - 1) for bound in (lower, upper))
        return min(low, high), high

    def draw(
        self,
        progress: float,
        batch: int,
        alphas_cumprod: AlphasCumprod,
        generator: torch.Generator,
    ) -> Timesteps:
        """``batch`` timesteps, on the generator's device: independent, or as ``schedule`` says.

        Args:
            progress: share of the run that is done, in [0, 1].
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
        """``w(t)``, by which the caller multiplies the direction of a loss."""
        a, s = alpha_sigma(alphas_cumprod, t)
        return {"sigma2": s**2, "alpha_sigma2": a * s**2, "uniform": torch.ones_like(s)}[
            self.weight
        ]


def _dreamtime(alphas_cumprod: AlphasCumprod, low: int, high: int, progress: float) -> int:
    """How far above ``low`` the timestep is above which a share ``progress`` of the weight lies.

    DreamTime's weight of a timestep (equation 8): its noise-to-signal ratio, times a plateau from
    0.5 to 0.8 T with Gaussian slopes of deviation 0.1 T below and 0.3 T above.
    """
    ratio = ((1 - alphas_cumprod) / alphas_cumprod).sqrt()[low : high + 1].double()
    u = torch.arange(low, high + 1) / len(alphas_cumprod)
    off = torch.where(u > 0.8, (u - 0.8) / 0.3, (u - 0.5).clamp(max=0) / 0.1)
    weights = ratio * (-0.5 * off.square()).exp()
    above = weights.flip(0).cumsum(0).flip(0) / weights.sum()
    return int((above - progress).abs().argmin())


def _share(progress: float, start: float, end: float) -> float:
    """How far ``progress`` has come from ``start`` to ``end``, in [0, 1]; a jump if they agree."""
    if progress < start:
        return 0.0
    return (progress - start) / (end - start) if progress < end else 1.0
