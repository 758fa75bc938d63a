"""Training in several processes. Each draws the same batches and computes its share of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from esd_splat.files import atomic_path


def rank() -> int:
    """Return the rank of this process, which is 0 if it is the only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(batch: Any) -> Any:
    """Return this process's share of a batch that every process has drawn alike."""
    return batch[rank() :: dist.get_world_size()] if dist.is_initialized() else batch


def average(gradients: list[Tensor]) -> None:
    """Average gradients over the processes, in place."""
    if not dist.is_initialized():
        return
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def cached(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the result of ``make``, which the first process runs once and saves in ``path``."""
    if rank() == 0 and not path.exists():
        value = make()
        with atomic_path(path) as temporary:
            torch.save(value, temporary)
    if dist.is_initialized():
        dist.barrier()
    return torch.load(path, weights_only=True)
