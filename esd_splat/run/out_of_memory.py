"""What to try when a device's memory does not suffice. Knows the configuration, no tensor."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from esd_splat.config import Config
from esd_splat.errors import RunError

CPU_SHORT = ("can't allocate memory", "not enough memory", '"aten::new_empty"')
"""What a ``RuntimeError`` says for want of memory: torch's of Linux and of others, our kernels'."""


def remedies(config: Config, *, joint: bool = False) -> str:
    """What this run does not use yet, the most helpful first: an estimate, not a measurement.

    Args:
        joint: whether the teacher looks at all views of a step together.
    """
    memory, views = config.memory, config.memory.views_at_once or config.batch
    options = {
        f"{'batch' if joint else 'memory.views_at_once'}={views // 2}": views > 1,
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
    """Turns a full device into a ``RunError`` that says what to try; see ``remedies``."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        full = isinstance(error, torch.OutOfMemoryError | MemoryError)
        on_cpu = config.device == "cpu" and any(words in str(error) for words in CPU_SHORT)
        if not (full or on_cpu):
            raise
        raise RunError(
            f"the memory of {config.device} does not suffice; try, what is estimated to save most "
            f"first: {remedies(config, joint=joint)}"
        ) from error
