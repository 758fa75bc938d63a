"""Low-rank layers inside a teacher's network, which are active only in some rows and when asked."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from esd_splat.distill.camera_embedding import CAMERA_EMBEDDINGS
from esd_splat.errors import TeacherError
from esd_splat.teacher.base import Teacher

ADAPTER = "scene"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CONVOLUTION = ("conv1", "conv2")


class Adapters:
    """Low-rank updates of a teacher's network, and an embedding of the camera for it.

    The teacher's own predictions are unchanged, because both are only active within ``awake``.

    Args:
        teacher: the teacher.
        rank: rank of every update.
        convolution: whether convolutions get updates too, beside the layers of attention.
        camera: key of ``CAMERA_EMBEDDINGS``.
        seed: seed of the initial weights.

    Raises:
        TeacherError: the network has no layer of these kinds.
    """

    def __init__(
        self, teacher: Teacher, rank: int, convolution: bool, camera: str, seed: int
    ) -> None:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer

        targets = ATTENTION + (CONVOLUTION if convolution else ())
        target = r".*\.(" + "|".join(targets) + ")"
        lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=target)
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
            self.camera = CAMERA_EMBEDDINGS[camera](time_embedding.linear_2.out_features)
        self.camera.to(teacher.device)
        self._teacher = teacher
        self._layers: list[Any] = [
            module for module in teacher.network.modules() if isinstance(module, BaseTunerLayer)
        ]
        for layer in self._layers:
            layer.lora_A[ADAPTER].register_forward_pre_hook(self._skip_rows)
            layer.lora_B[ADAPTER].register_forward_hook(self._pad_update)
        self._embedded: Tensor | None = None
        self._asleep = 0
        time_embedding.register_forward_hook(self._add_camera)
        updates = [p for n, p in teacher.network.named_parameters() if f".{ADAPTER}." in n]
        for parameter in updates:
            parameter.data = parameter.data.float()  # half precision would round Adam's steps away
        self.parameters: list[nn.Parameter] = [*updates, *self.camera.parameters()]
        self._sleep()

    @contextmanager
    def awake(
        self, c2w: Float[Tensor, "b 4 4"], hidden: Bool[Tensor, " b"], asleep: int = 0
    ) -> Iterator[None]:
        """Activate the updates and the camera embedding in all rows but the first ``asleep``.

        Args:
            c2w: camera-to-world matrices of these rows.
            hidden: whether the camera of each of these rows is hidden.
        """
        for layer in self._layers:  # enable_adapters also walks all parameters, in milliseconds
            layer._disable_adapters = False
        self._embedded, self._asleep = self.camera(c2w, hidden), asleep
        self._teacher.pristine = False
        try:
            yield
        finally:
            self._sleep()

    def _sleep(self) -> None:
        self._embedded, self._teacher.pristine = None, True
        for layer in self._layers:
            layer._disable_adapters = True

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
