"""What saves a device's memory, at no cost to the numbers beyond rounding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from esd_splat.errors import check


@dataclass(frozen=True)
class Memory:
    """Time for memory. Any of it may change when a run is resumed."""

    views_at_once: int | None = None
    """Views that are drawn, encoded, shown to the network and trained on together, at least 1; null
    is all of batch. Fewer take less memory and more passes, and change only the rounding. With
    pooled views each is drawn and encoded twice."""
    checkpointing: bool = False
    """Whether the network, while the particle trains, and the encoder keep only the inputs of their
    blocks for the backward pass, and compute the rest again."""
    slicing: bool = False
    """Whether the VAE takes one picture at a time. Less memory where no gradient is asked for."""
    offload: bool = False
    """Whether the text encoders stay on the CPU. Each text is encoded once, there."""
    compile: bool = False
    """Whether torch.compile makes kernels for the network: for speed, minutes later."""

    def __post_init__(self) -> None:
        some = self.views_at_once is None or self.views_at_once >= 1
        check(self, {"views_at_once": (some, "at least 1")})

    def place(self, parts: Mapping[str, Any], device: torch.device) -> None:
        """Move the networks among a model's ``parts`` to where they work, frozen."""
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                stays = self.offload and name.startswith("text_encoder")
                part.to("cpu" if stays else device).eval().requires_grad_(False)

    def prepare(self, network: Any, vae: Any) -> None:
        """Set up diffusers' modules, before anything else hooks into them."""
        if self.checkpointing:
            network.enable_gradient_checkpointing()
            vae.enable_gradient_checkpointing()
        if self.slicing:
            vae.enable_slicing()
        if self.compile:
            network.compile()  # in place: it compiles when first called, with the particle inside
