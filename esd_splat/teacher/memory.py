"""Settings that save memory or time without changing the results beyond rounding."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from esd_splat.settings.schema import Field, section


@section
class Memory:
    """Settings that trade memory and time. All may change when a run is resumed."""

    views_at_once: int | None = Field(default=None, ge=1)
    """How many views are drawn, encoded, shown to the network and trained on together; null is all
    of batch. Fewer views take less memory and more passes, and change nothing but rounding. If the
    loss pools views, each is drawn and encoded twice."""
    checkpointing: bool = False
    """Whether the encoder, and the network while the LoRA trains, keep only the inputs of their
    blocks for the backward pass and compute the rest again."""
    slicing: bool = False
    """Whether the VAE takes one image at a time. It saves memory where no gradient is needed."""
    offload: bool = False
    """Whether the text encoders stay on the CPU, where each text is encoded once."""
    compile: bool = False
    """Whether torch.compile compiles the network. It is faster after minutes of compilation."""
    trace: bool = True
    """Whether passes of Stable Diffusion 1 or 2 on the CPU, in float32, run as a TorchScript graph,
    which is recorded in half a second. Passes with the LoRA do not, and with Python 3.14 or later
    none does."""

    def place(self, parts: Mapping[str, Any], device: torch.device) -> None:
        """Freeze the networks among a model's ``parts`` and move them to their devices."""
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                stays = self.offload and name.startswith("text_encoder")
                part.to("cpu" if stays else device).eval().requires_grad_(False)

    def prepare(self, network: Any, vae: Any) -> None:
        """Set up diffusers' modules. This must come before anything hooks into them."""
        if self.checkpointing:
            network.enable_gradient_checkpointing()
            vae.enable_gradient_checkpointing()
        if self.slicing:
            vae.enable_slicing()
        if self.compile:
            network.compile()  # in place; it compiles at the first call, with the LoRA inside
