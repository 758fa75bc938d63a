"""Passes through a frozen network on the CPU, recorded once and then run without Python."""

import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

SUPPORTED = sys.version_info < (3, 14)
"""Whether TorchScript works with this version of Python."""


class Traced:
    """A network's forward pass as a TorchScript graph, its rows split among PyTorch's threads.

    In a small network, Python takes a quarter of a pass, and the graph runs without it. Threads
    that compute a share of the rows each wait for one another less often than threads that share
    each operator. With one thread, the results are those of the network to the bit. With more, they
    differ by rounding, because operators compute another number of rows in another order.

    The graph shares the weights of the network. What hooks and adapters do in the first pass is
    recorded with it.

    Args:
        network: a diffusers model that returns its result as ``sample``.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._graph: Callable[..., Tensor] | None = None
        self._threads = ThreadPoolExecutor(initializer=torch.set_num_threads, initargs=(1,))

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return ``sample`` for these inputs, which have a row for each prediction. It has no
        gradient.
        """
        if self._graph is None:
            self._graph = _record(self._network, inputs)
        threads = torch.get_num_threads()
        first, *others = zip(*(x.tensor_split(min(threads, len(x))) for x in inputs), strict=True)
        if not others:
            return self._graph(*inputs)
        torch.set_num_threads(1)  # for the operators of each share
        try:
            started = [self._threads.submit(_run, self._graph, share) for share in others]
            return torch.cat([self._graph(*first), *(share.result() for share in started)])
        finally:
            torch.set_num_threads(threads)


class _Sample(nn.Module):
    """The network with a tensor as its result, which is what TorchScript can record."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, *inputs: Tensor) -> Tensor:
        return self.network(*inputs).sample


@torch.no_grad()
def _run(graph: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
    """Run the graph in a thread, where gradients have to be turned off once more."""
    return graph(*inputs)


def _record(network: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    with warnings.catch_warnings():
        # torch deprecates TorchScript in favour of compilers, which newcomers do not have. The
        # other warnings are about sizes that are the same in every pass of a run.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        graph: Any = torch.jit.trace(_Sample(network).eval(), inputs, check_trace=False)
    return graph
