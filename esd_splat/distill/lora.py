"""The scene's LoRA: low-rank updates of the teacher that learn what the scene's renders look like.

The LoRA is given the camera for most training samples, and for the others the camera is dropped. So
it learns both the distribution of renders from one camera and that of renders from all cameras.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from esd_splat.errors import TeacherError
from esd_splat.settings.schema import Field, section
from esd_splat.teacher.base import Embeddings, Teacher
from esd_splat.teacher.noise import add_noise
from esd_splat.types import Latents, Timesteps

ADAPTER = "scene"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CONVOLUTION = ("conv1", "conv2")


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

    def attach(self, teacher: Teacher, seed: int) -> "AttachedLora":
        """Add a new LoRA to ``teacher``'s network, where it is inactive until it is called."""
        return AttachedLora(self, teacher, seed)


class CameraEmbedding(nn.Module):
    """Maps a camera to a term of the network's time embedding, which is zero until trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.zeros_(self.layers[2].weight)  # pyright: ignore[reportArgumentType]
        nn.init.zeros_(self.layers[2].bias)  # pyright: ignore[reportArgumentType]

    def forward(
        self, c2w: Float[Tensor, "b 4 4"], hidden: Bool[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        """Embed camera-to-world matrices. A hidden camera is embedded as a vector of zeros."""
        return self.layers(c2w.flatten(1) * ~hidden[:, None])


class AttachedLora:
    """The adapters inside a teacher's network, the camera embedding, and their optimizer.

    The teacher's own predictions are unchanged, because the adapters and the embedding are only
    active within ``eps`` and ``train``.
    """

    def __init__(self, config: Lora, teacher: Teacher, seed: int) -> None:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer

        self.config, self.teacher = config, teacher
        targets = ATTENTION + (CONVOLUTION if "convolution" in config.layers else ())
        target = r".*\.(" + "|".join(targets) + ")"
        lora = LoraConfig(r=config.rank, lora_alpha=config.rank, target_modules=target)
        if not any(re.fullmatch(target, name) for name, _ in teacher.network.named_modules()):
            raise TeacherError(
                "teacher.model: its network has no layer that the LoRA could adapt "
                f"({', '.join(targets)}); use a loss without a LoRA, such as loss=sds"
            )
        # peft and nn.Linear draw their initial weights from the global generator only.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(lora, teacher.network, adapter_name=ADAPTER)
            time_embedding: Any = teacher.time_embedding
            self.camera = CameraEmbedding(time_embedding.linear_2.out_features)
        self.camera.to(teacher.device)
        self._layers: list[Any] = [
            m for m in teacher.network.modules() if isinstance(m, BaseTunerLayer)
        ]
        for layer in self._layers:
            layer.lora_A[ADAPTER].register_forward_pre_hook(self._skip_rows)
            layer.lora_B[ADAPTER].register_forward_hook(self._pad_update)
        self._embedded: Tensor | None = None
        self._asleep = 0
        time_embedding.register_forward_hook(self._add_camera)
        adapters = [p for n, p in teacher.network.named_parameters() if f".{ADAPTER}." in n]
        for parameter in adapters:
            parameter.data = parameter.data.float()  # half precision would round Adam's steps away
        self.parameters: list[nn.Parameter] = [*adapters, *self.camera.parameters()]
        # Weight decay would pull the LoRA towards the teacher, which is not its target.
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.lr, weight_decay=0.0)
        self.trained = 0
        self._sleep()

    def eps(
        self,
        noisy: Latents,
        t: Timesteps,
        embeddings: Embeddings,
        c2w: Float[Tensor, "p 4 4"],
        hidden: Bool[Tensor, " p"],
    ) -> Latents:
        """Return noise predictions: the LoRA's in the last ``p`` rows, the teacher's in the others.

        One pass makes both, so the weights are read only once and the device is kept busy.

        Args:
            noisy: noisy latents of all rows.
            t: timesteps of all rows.
            embeddings: embeddings of all rows.
            c2w: camera-to-world matrices of the LoRA's rows.
            hidden: whether the camera of each of these rows is hidden from the LoRA.
        """
        with torch.no_grad(), self._awake(c2w, hidden, asleep=len(noisy) - len(c2w)):
            return self.teacher.eps(noisy, t, embeddings)

    def train(
        self,
        latents: Latents,
        embeddings: Embeddings,
        c2w: Float[Tensor, "b 4 4"],
        generator: torch.Generator,
        at_once: int | None = None,
    ) -> float:
        """Train the LoRA on the current renders for ``config.steps`` steps.

        Each step draws noise, and timesteps uniformly from the teacher's whole range: one for each
        render, or one for all if the teacher is joint. It takes an AdamW step on the mean squared
        error of the network's output to ``Teacher.target``.

        Args:
            latents: latents of the current renders. They are detached here.
            embeddings: embeddings of the prompt without view words, one row per render.
            c2w: camera-to-world matrices of the renders.
            generator: a CPU generator.
            at_once: number of rows that pass through the network together; ``None`` for all.

        Returns:
            The mean squared error of the last step.
        """
        clean = latents.detach()
        batch, device = len(clean), clean.device
        parts = torch.arange(batch, device=device).split(at_once or batch)
        loss = torch.zeros(())
        for _ in range(self.config.steps):
            T = len(self.teacher.alphas_cumprod)
            levels = 1 if self.teacher.joint else batch
            t = torch.randint(T, (levels,), generator=generator).to(device).expand(batch)
            noise = torch.randn(clean.shape, generator=generator).to(device)
            dropped = torch.rand(batch, generator=generator) < self.config.camera_dropout
            noisy = add_noise(clean, noise, self.teacher.alphas_cumprod, t)
            dropped, target = dropped.to(device), self.teacher.target(clean, noise, t)
            loss = torch.zeros((), device=device)
            for rows in parts:
                with self._awake(c2w[rows], dropped[rows]):
                    output = self.teacher.output(noisy[rows], t[rows], embeddings[rows])
                    error = (output - target[rows]).square().mean() * (len(rows) / batch)
                    error.backward()
                loss += error.detach()
            self.trained += 1
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.lr * min(1.0, self.trained / max(1, self.config.warmup))
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss.item()

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

    @contextmanager
    def _awake(
        self, c2w: Float[Tensor, "b 4 4"], hidden: Bool[Tensor, " b"], asleep: int = 0
    ) -> Iterator[None]:
        """Activate the adapters and the camera embedding in all rows but the first ``asleep``."""
        for layer in self._layers:
            layer.enable_adapters(enabled=True)
        self._embedded, self._asleep = self.camera(c2w, hidden), asleep
        try:
            yield
        finally:
            self._sleep()

    def _sleep(self) -> None:
        self._embedded = None
        for layer in self._layers:
            layer.enable_adapters(enabled=False)

    def _add_camera(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if self._embedded is None:
            return output
        return output + _pad_rows(self._embedded.to(output.dtype), self._asleep)

    def _skip_rows(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0][self._asleep :],)

    def _pad_update(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return _pad_rows(output, self._asleep)


def _pad_rows(x: Tensor, count: int) -> Tensor:
    """Return ``x`` with ``count`` rows of zeros in front."""
    return nn.functional.pad(x, (0, 0) * (x.ndim - 1) + (count, 0)) if count else x
