"""The scene's LoRA: low-rank updates of the teacher that learn what the scene's renders look like.

The LoRA is given the camera for most training samples, and for the others the camera is dropped. So
it learns both the distribution of renders from one camera and that of renders from all cameras.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from esd_splat.distill.adapters import Adapters
from esd_splat.distill.draws import TrainingDraws
from esd_splat.distill.pool import Pool
from esd_splat.distill.recent import Recent
from esd_splat.settings.schema import Field, section
from esd_splat.teacher.base import Embeddings, Teacher
from esd_splat.teacher.noise import TimestepRange, add_noise, alpha_sigma
from esd_splat.types import Latents, Timesteps

TIMESTEPS, POOL = TimestepRange(), Pool()


@section
class Lora:
    """How the scene's LoRA is built and trained. Losses that do not use it cost nothing."""

    rank: int = Field(default=8, ge=1)
    """Rank of every low-rank update."""
    layers: Literal["attention", "attention+convolution"] = "attention+convolution"
    """Which layers of the teacher's network get low-rank updates."""
    lr: float = Field(default=1e-3, gt=0, lt=1)
    """Learning rate of the LoRA's own AdamW."""
    warmup: int = Field(default=50, ge=0)
    """Number of training steps in which the learning rate rises linearly from 0."""
    steps: int = Field(default=1, ge=1)
    """Number of training steps per step of the scene."""
    camera_dropout: float = Field(default=0.1, ge=0, le=1)
    """Probability with which the camera of a training sample is dropped."""
    timesteps: Literal["all", "loss"] = "all"
    """Timesteps that the LoRA is trained at: all draws them uniformly from the teacher's whole
    range, loss draws and weights them as the scene's loss does at the same step, see timesteps."""
    weighting: Literal["output", "v"] = "output"
    """What its training error is measured in: output is what the network predicts, v is the
    velocity. For a network that predicts noise, v divides the squared error by alpha^2, so that
    high noise levels count as much as low ones."""
    camera: Literal["matrix", "pose"] = "matrix"
    """How the camera enters: matrix embeds the camera-to-world matrix and is zero at first, pose
    embeds smooth functions of the camera's position and is not zero at first."""
    precision: Literal["network", "32"] = "network"
    """What its predictions are computed in. With 32, a network in half precision computes them in
    float32, layer by layer, in a pass of their own. They are hardly off the teacher's, so rounding
    is a large part of the difference. Training stays in the precision of the network."""
    base: Literal["teacher", "pool"] = "teacher"
    """What the LoRA's predictions start from: those of the teacher, or those of the pool of recent
    views. With pool, the LoRA learns only what the pool misses (a control variate). It costs the
    teacher's own prediction for each row."""
    replay: int = Field(default=0, ge=0, le=64)
    """How many steps' worth of recent views each training step repeats, beside the current views.
    They are drawn from the latest pool.views."""
    first_steps: int = Field(default=0, ge=0)
    """Number of training steps on views of the initial scene, before the scene's first step."""

    @property
    def uses_recent(self) -> bool:
        """Whether training or predictions need the recent views."""
        return self.base == "pool" or self.replay > 0

    def attach(
        self, teacher: Teacher, seed: int, schedule: TimestepRange = TIMESTEPS, pool: Pool = POOL
    ) -> "AttachedLora":
        """Add a new LoRA to ``teacher``'s network, where it is inactive until it is called.

        Args:
            seed: seed of the initial weights.
            schedule: the timesteps of the scene's loss, for ``timesteps`` = ``loss``.
            pool: the pool of recent views, for ``base`` = ``pool``.
        """
        return AttachedLora(self, teacher, seed, schedule, pool)


class AttachedLora:
    """A LoRA in a teacher's network, and its optimizer. It is only active in ``eps`` and ``train``,
    so the teacher's own predictions are unchanged.
    """

    def __init__(
        self, config: Lora, teacher: Teacher, seed: int, schedule: TimestepRange, pool: Pool
    ) -> None:
        self.config, self.teacher, self.schedule, self.pool = config, teacher, schedule, pool
        self._alphas_cumprod = teacher.alphas_cumprod.cpu()
        convolution = "convolution" in config.layers
        self.adapters = Adapters(teacher, config.rank, convolution, config.camera, seed)
        self.parameters = self.adapters.parameters
        # Weight decay would pull the LoRA towards the teacher, which is not its target.
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.lr, weight_decay=0.0)
        self.trained = 0

    def eps(
        self,
        noisy: Latents,
        t: Timesteps,
        embeddings: Embeddings,
        c2w: Float[Tensor, "p 4 4"],
        hidden: Bool[Tensor, " p"],
    ) -> Latents:
        """Return noise predictions: the LoRA's in the last ``p`` rows, the teacher's in the others.

        One pass makes both, so the weights are read only once and the device is kept busy. With
        ``precision`` = ``32``, the LoRA's rows have a pass of their own.

        Args:
            noisy: noisy latents of all rows.
            t: timesteps of all rows.
            embeddings: embeddings of all rows.
            c2w: camera-to-world matrices of the LoRA's rows.
            hidden: whether the camera of each of these rows is hidden from the LoRA.
        """
        inputs, first = (noisy, t, embeddings), len(noisy) - len(c2w)
        with torch.no_grad():
            if self.config.precision == "network" or len(c2w) == 0:
                with self.adapters.awake(c2w, hidden, asleep=first):
                    return self.teacher.eps(*inputs)
            own = self.teacher.eps(*(x[:first] for x in inputs)) if first else noisy[:0]
            with self.adapters.awake(c2w, hidden), self.teacher.in_float32():
                return torch.cat([own, self.teacher.eps(*(x[first:] for x in inputs))])

    def draw(
        self, batch: int, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[TrainingDraws, ...]:
        """Draw what ``train`` needs for ``config.steps`` steps on ``batch`` current renders. Those
        that a joint teacher sees together share a timestep.

        Args:
            generator: a CPU generator.
            progress: fraction of the run that is done, in [0, 1].
        """
        config, schedule, drawn = self.config, self._alphas_cumprod, []
        together = batch if self.teacher.joint else 1
        rows = (1 + config.replay) * batch
        for _ in range(config.steps):
            groups = torch.rand(config.replay, generator=generator)
            if config.timesteps == "loss":
                t = self.schedule.draw(progress, rows // together, schedule, generator)
            else:
                t = torch.randint(len(schedule), (rows // together,), generator=generator)
            noise = torch.randn(rows, *self.teacher.latent_shape, generator=generator)
            dropped = torch.rand(rows, generator=generator) < config.camera_dropout
            drawn.append(TrainingDraws(groups, t.repeat_interleave(together), noise, dropped))
        return tuple(drawn)

    def train(
        self,
        views: Recent,
        embeddings: Embeddings,
        drawn: Sequence[TrainingDraws],
        at_once: int | None = None,
        recent: Recent | None = None,
    ) -> Float[Tensor, ""]:
        """Train the LoRA on the current renders, one AdamW step for each of ``drawn``.

        Each step takes the mean squared error of the network's output to ``Teacher.target``,
        weighted as ``config`` says.

        Args:
            views: the current renders.
            embeddings: embedding of the prompt without view words, one row.
            drawn: what ``draw`` returned for that many renders, on the teacher's device.
            at_once: number of rows that pass through the network together; ``None`` for all.
            recent: the recent views including the current ones, for ``config.replay`` and for
                ``config.base`` = ``pool``.

        Returns:
            The mean squared error of the last step.
        """
        loss, teacher, batch = torch.zeros(()), self.teacher, len(views)
        for groups, t, noise, dropped in drawn:
            seen = views
            if recent is not None and len(groups):
                seen = views.join(recent.chosen(groups, batch), batch * (1 + len(groups)))
            clean, rows = seen.latents, len(seen)
            noisy = add_noise(clean, noise, teacher.alphas_cumprod, t)
            target = teacher.target(clean, noise, t)
            each = embeddings.expand(batch, -1, -1)
            told = torch.cat([teacher.told(each, c2w) for c2w in seen.c2w.split(batch)])
            weights = self._weights(t)
            loss = torch.zeros((), device=clean.device)
            for part in torch.arange(rows, device=clean.device).split(at_once or rows):
                inputs = noisy[part], t[part], told[part]
                shift = self._shift(*inputs, recent)
                with self.adapters.awake(seen.c2w[part], dropped[part]):
                    off = teacher.output(*inputs) + shift - target[part]
                    error = (weights[part] * off.square()).mean() * (len(part) / rows)
                    error.backward()
                loss += error.detach()
            self.trained += 1
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.lr * min(1.0, self.trained / max(1, self.config.warmup))
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss

    def _weights(self, t: Timesteps) -> Float[Tensor, "b 1 1 1"]:
        """Return the weight of the squared error of the network's output at each timestep."""
        schedule = self.teacher.alphas_cumprod
        weights = torch.ones_like(schedule[t])[:, None, None, None]
        if self.config.timesteps == "loss":
            weights = self.schedule.weights(schedule, t)
        if self.config.weighting == "v":
            # An error of eps is alpha times the error of v that it implies.
            weights = weights * (self.teacher.slope(t) / alpha_sigma(schedule, t)[0]).square()
        return weights

    @torch.no_grad()
    def _shift(
        self, noisy: Latents, t: Timesteps, embeddings: Embeddings, recent: Recent | None
    ) -> Latents:
        """Return what ``base`` adds to the output of the network."""
        if self.config.base == "teacher" or recent is None:
            return torch.zeros_like(noisy)
        pooled = self.pool.eps(recent.latents, noisy, self.teacher.alphas_cumprod, t)
        return (pooled - self.teacher.eps(noisy, t, embeddings)) / self.teacher.slope(t)

    def state(self) -> dict[str, Any]:
        """Return everything that training has changed, for a checkpoint."""
        return {
            "parameters": [p.detach() for p in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "trained": self.trained,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.trained = state["trained"]
