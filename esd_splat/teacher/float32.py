"""Running a half-precision network in float32, without a second copy of its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

HALVES = (torch.float16, torch.bfloat16)


class Float32:
    """Lets a network compute in float32 for a while, though its weights stay in half precision.

    Each module's own weights are converted just before it runs and given up right after it, so only
    those of one layer at a time take memory.

    Args:
        network: the network. Modules that are added to it later are left as they are.
    """

    def __init__(self, network: nn.Module) -> None:
        self._on = False
        self._kept: dict[nn.Module, dict[str, Tensor | None]] = {}
        for module in network.modules():
            if any(weight.dtype in HALVES for weight in module.parameters(recurse=False)):
                module.register_forward_pre_hook(self._widen)
                module.register_forward_hook(self._narrow, always_call=True)

    @contextmanager
    def on(self) -> Iterator[None]:
        """While open, the network's weights are float32. Its inputs should be so, too."""
        self._on = True
        try:
            yield
        finally:
            self._on = False

    def _widen(self, module: nn.Module, inputs: Any) -> None:
        if not self._on:
            return
        weights: dict[str, Any] = module._parameters
        self._kept[module] = dict(weights)
        for name, weight in weights.items():
            if weight is not None and weight.dtype in HALVES:
                weights[name] = weight.float()

    def _narrow(self, module: nn.Module, inputs: Any, output: Any) -> None:
        weights: dict[str, Any] = module._parameters
        weights.update(self._kept.pop(module, {}))
