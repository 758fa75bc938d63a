"""What to try when a device runs out of memory, judged from the config alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from esd_splat.config import Config
from esd_splat.errors import RunError

CPU_SHORT = ("can't allocate memory", "not enough memory", '"aten::new_empty"')
"""Texts of a ``RuntimeError`` for a lack of memory: by torch on Linux, by torch on other systems,
and by our kernels."""
OTHERS = 0.15
"""Other programs are named if they have at least this fraction of a GPU's memory. The context of
this program, some 0.5 GiB, counts as theirs."""


def remedies(config: Config, *, joint: bool = False) -> str:
    """List the ways to save memory that this run does not use yet.

    The one that should save most comes first. The order is an estimate, not a measurement.

    Args:
        joint: whether the teacher looks at all views of a step at once.
    """
    memory, views = config.memory, config.memory.views_at_once or config.batch
    options = {
        f"{'batch' if joint else 'memory.views_at_once'}={views // 2}": views > 1
        and not (joint and config.cameras.ring),  # the number of views may be fixed
        "memory.checkpointing=true": not memory.checkpointing,
        "precision=bf16-mixed": config.precision == "32",
        "memory.offload=true": not memory.offload,
        "memory.slicing=true": not memory.slicing,
        f"cameras.size={config.cameras.size // 2}": config.cameras.size >= 16,
        "a smaller densify.max_count": hasattr(config.densify, "max_count"),
        "view=false": config.view,
    }
    return ", ".join(name for name, unused in options.items() if unused)


@contextmanager
def short_of_memory(config: Config, *, joint: bool = False) -> Iterator[None]:
    """Turn a lack of memory into a ``RunError`` that lists the ``remedies``."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        full = isinstance(error, torch.OutOfMemoryError | MemoryError)
        on_cpu = config.device == "cpu" and any(words in str(error) for words in CPU_SHORT)
        if not (full or on_cpu):
            raise
        raise RunError(
            f"{config.device} has too little memory{_taken(config.device)}; try, in the order of "
            f"the estimated savings: {remedies(config, joint=joint)}"
        ) from error


def _taken(device: str) -> str:
    """Say how much of a GPU's memory other programs have, if it is more than a desktop's share."""
    if not device.startswith("cuda"):
        return ""
    free, total = torch.cuda.mem_get_info(device)
    others = total - free - torch.cuda.memory_reserved(device)
    if others < OTHERS * total:
        return ""
    return (
        f", as other programs have {others / 2**30:.1f} of its {total / 2**30:.1f} GiB (nvidia-smi "
        "lists them: end them, or choose another device)"
    )
