"""One fit of a Gaussian to a Gaussian with a loss of ``esd_splat``, under either noise schedule.

By default, a run works like the rest of the library. With ``--paper``, it repeats the script that
came with the paper (VITA-Group/3D-Mode-Collapse, gaussian_example.py) draw for draw, including
what is wrong there:

- The signal scale is the cumulative product of random factors over the *batch*, so the noise
  depends on the position of a point in the batch, and its range on the batch size.
- The noise scale is ``sqrt((1 - alpha) / alpha)``, which is neither variance preserving nor
  variance exploding, as the signal is scaled too.
- SDS subtracts the drawn noise from a *score*, where it should subtract ``-noise / sigma``.
- The gradient is applied to the noisy points, which adds another factor alpha.
- The cosine ends at 0.27 of the learning rate, before the mean has converged.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.distill.losses import ScoreDistillation, surrogate_loss
from esd_splat.errors import RunError
from esd_splat.teacher.noise import TimestepRange, alpha_sigma
from esd_splat.toy.exact import Column, Gaussian, Points, fixed_point, make_problem, point_eps
from esd_splat.toy.settings import TIMESTEPS, Settings

ALPHAS_CUMPROD = (
    1 - torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64) ** 2
).cumprod(0)
"""The noise schedule of Stable Diffusion (scaled_linear)."""
RANGE = TimestepRange()
"""The range and weights of the timesteps that are drawn: the defaults of the library."""
PAPER_BETAS = (0.0001, 0.02)
PAPER_HORIZON = 1.5
"""The cosine of the paper's script spans this multiple of the steps of the run."""


@dataclass(frozen=True)
class Levels:
    """The noise level of each point in a batch, and the weight of its direction."""

    alpha: Column
    """Signal scale."""
    sigma: Column
    """Noise scale."""
    weight: Column
    """w(t)."""

    def to(self, device: str) -> "Levels":
        """Return the same levels on ``device``."""
        return Levels(self.alpha.to(device), self.sigma.to(device), self.weight.to(device))


@dataclass(frozen=True)
class Fit:
    """The result of a run."""

    settings: Settings
    target: Gaussian
    steps: list[int]
    """The number of steps before each fit in ``path``: 0, every ``logging_steps``, and the last."""
    path: list[Gaussian]
    shown: Float[Tensor, "2 n d"]
    """Standard normal samples that pictures place on the target and on each fit in ``path``."""
    seconds: float

    @property
    def fitted(self) -> Gaussian:
        """The last fit in ``path``."""
        return self.path[-1]

    @property
    def expected_cov(self) -> Float[Tensor, "d d"] | None:
        """The covariance that the fit should converge to, or ``None`` without a closed form."""
        weight = self.settings.entropy_weight
        if self.settings.weight_decay > 0 or (self.settings.paper and weight not in (0, 1)):
            return None
        levels = every_level(self.settings.timestep)
        columns = (levels.alpha[:, 0], levels.sigma[:, 0], levels.weight[:, 0])
        return fixed_point(self.target.cov, weight, *columns)


def fit(settings: Settings) -> Fit:
    """Fit by gradient descent from a random start.

    The same settings give the same bits on the same machine.

    Raises:
        RunError: the fit diverged to values that are not finite.
    """
    device = settings.torch_device
    batch, ndim = settings.batch_size, settings.ndim
    generator = torch.Generator().manual_seed(settings.seed)
    target, start = make_problem(generator, ndim, settings.dist_0)
    shown = _shown(settings, generator)
    target, start = target.to(device), start.to(device)
    mean, factor = start.mean.clone().requires_grad_(), start.factor.clone().requires_grad_()
    optimizer = torch.optim.AdamW([mean, factor], weight_decay=settings.weight_decay)
    steps, path, began = [0], [start], time.perf_counter()
    last = settings.total_steps + settings.paper  # the paper's script does one more step
    for step in range(last):
        levels = draw_levels(settings, generator).to(device)
        z = torch.randn(batch, ndim, generator=generator).double().to(device)
        noise = torch.randn(batch, ndim, generator=generator).double().to(device)
        optimizer.param_groups[0]["lr"] = learning_rate(settings, step)
        optimizer.zero_grad()
        fitted = Gaussian(mean, factor)
        distil(settings.loss, target, fitted, z, noise, levels, paper=settings.paper).backward()
        optimizer.step()
        if not (mean.isfinite().all() and fitted.cov.isfinite().all()):
            raise RunError(f"{settings.title} diverged at step {step}: lower --lr")
        if (step + 1) % settings.logging_steps == 0 or step + 1 == last:
            steps.append(step + 1)
            path.append(Gaussian(mean.detach().clone(), factor.detach().clone()))
    return Fit(
        settings,
        target.to("cpu"),
        steps,
        [g.to("cpu") for g in path],
        shown,
        time.perf_counter() - began,
    )


def distil(
    loss: ScoreDistillation,
    target: Gaussian,
    fitted: Gaussian,
    z: Points,
    noise: Points,
    levels: Levels,
    *,
    paper: bool = False,
) -> Float[Tensor, ""]:
    """Return a scalar whose gradient in ``fitted`` is the direction of ``loss`` for these draws.

    Args:
        z: standard normal. It determines which point of ``fitted`` is drawn, as a camera
            determines the view.
        noise: standard normal.
        paper: whether to give SDS the wrong noise and apply the gradient to the noisy points.
    """
    alpha, sigma = levels.alpha, levels.sigma
    x = fitted.place(z)
    noisy = alpha * x + sigma * noise
    predict: dict[str, Callable[[], Points]] = {
        "teacher": lambda: target.eps(noisy, alpha, sigma),
        # The SDS of the paper's script is score_p - noise, and eps = -sigma * score.
        "noise": lambda: -sigma * noise if paper else noise,
        "lora": lambda: point_eps(x, noisy, alpha, sigma),
        "lora_null": lambda: fitted.eps(noisy, alpha, sigma),
    }
    with torch.no_grad():
        eps = {name: _as_latents(predict[name]()) for name in loss.needs}
        direction = _as_latents(levels.weight) * loss.direction(**eps)
    return surrogate_loss(_as_latents(noisy if paper else x), direction)


def draw_levels(settings: Settings, generator: torch.Generator) -> Levels:
    """Draw random noise levels for one batch."""
    if settings.paper:
        low, high = PAPER_BETAS
        betas = torch.rand(settings.batch_size, generator=generator) * (high - low) + low
        alpha = (1 - betas).cumprod(0).double()[:, None]
        # The script weights scores by (1 - alpha) sigma. As eps = -sigma * score, the weight of
        # eps is 1 - alpha.
        return Levels(alpha, ((1 - alpha) / alpha).sqrt(), 1 - alpha)
    t = RANGE.draw(0.0, settings.batch_size, ALPHAS_CUMPROD, generator)
    return _levels_at(t if settings.timestep is None else torch.full_like(t, settings.timestep))


def every_level(timestep: int | None) -> Levels:
    """Return each noise level that ``draw_levels`` can draw without ``--paper``."""
    low, high = RANGE.bounds(0.0, TIMESTEPS)
    return _levels_at(torch.arange(low, high + 1) if timestep is None else torch.tensor([timestep]))


def learning_rate(settings: Settings, step: int) -> float:
    """Return the learning rate at ``step``: a linear warm-up followed by a cosine."""
    lr, warmup, total = settings.learning_rate, settings.warmup, settings.total_steps
    if settings.scheduler_type == "none":
        return lr
    if settings.paper:
        if step < warmup:
            return lr * step / warmup
        return lr * max(
            settings.min_lr, _cosine(step - warmup, int(PAPER_HORIZON * total) - warmup)
        )
    if step < warmup:
        return lr * (step + 1) / warmup
    return settings.min_lr + (lr - settings.min_lr) * _cosine(step - warmup, total - warmup)


def _shown(settings: Settings, generator: torch.Generator) -> Float[Tensor, "2 n d"]:
    if settings.paper:  # the script draws them here, before the first step
        count = settings.batch_size
    else:  # another generator, so that the fit does not depend on how it is drawn
        count, generator = settings.num_samples_vis, torch.Generator().manual_seed(settings.seed)
    return torch.randn(2, count, settings.ndim, generator=generator).double()


def _levels_at(t: Tensor) -> Levels:
    alpha, sigma = alpha_sigma(ALPHAS_CUMPROD, t)
    weight = RANGE.weights(ALPHAS_CUMPROD, t)
    return Levels(alpha.flatten(1), sigma.flatten(1), weight.flatten(1))


def _cosine(step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))


def _as_latents(points: Float[Tensor, "n d"]) -> Float[Tensor, "n d 1 1"]:
    return points[:, :, None, None]
