"""Passes through a frozen network on the CPU, recorded once and then run without Python."""

import sys
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

SUPPORTED = sys.version_info < (3, 14)
"""Whether TorchScript works with this version of Python."""


class Traced:
    """A network's forward pass as a TorchScript graph, with the same results to the bit.

    In a small network, Python takes a quarter of a pass, and the graph runs without it.

    The graph shares the weights of the network. What hooks and adapters do in the first pass is
    recorded with it.

    Args:
        network: a diffusers model that returns its result as ``sample``.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._graph: Any = None

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return ``sample`` for these inputs, which have a row for each prediction. It has no
        gradient.
        """
        if self._graph is None:
            self._graph = _record(self._network, inputs)
        return self._graph(*inputs)


class _Sample(nn.Module):
    """The network with a tensor as its result, which is what TorchScript can record."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, *inputs: Tensor) -> Tensor:
        return self.network(*inputs).sample


def _record(network: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    with warnings.catch_warnings():
        # torch deprecates TorchScript in favour of compilers, which newcomers do not have. The
        # other warnings are about sizes that are the same in every pass of a run.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return torch.jit.trace(_Sample(network).eval(), inputs, check_trace=False)
