"""What a step costs on a device: host waits, uploads and memory; and what is wrong with it."""

import sys
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

from torch import Tensor

ROOT = Path(__file__).parents[2]
PACKAGE = f"{ROOT / 'esd_splat'}/"
LIBRARIES = ("diffusers", "peft", "transformers", "gsplat")
BLOCK = 512
"""CUDA's caching allocator rounds each allocation up to a multiple of this many bytes."""


class Counts:
    """Counted since ``start``, by place: the file and function that asked for it."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        """Times that the host waits for the device."""
        self.uploads: Counter[str] = Counter()
        """Copies from the host to the device."""
        self.faults: Counter[str] = Counter()
        """Operators that take tensors of several floating types, or of several devices."""
        self.live = 0
        """Bytes of the tensors on the device."""
        self.peak = 0
        """The most bytes at any time since ``start``."""
        self._storages: dict[int, tuple[Any, int]] = {}

    def start(self) -> None:
        """Count from here. What lives now is the first peak."""
        for counter in (self.waits, self.uploads, self.faults):
            counter.clear()
        self.peak = self.live

    def wait(self, x: Tensor, where: str = "") -> None:
        """Note that the host needs the data of ``x``."""
        if x.is_cuda:
            self.waits[where or place()] += 1

    def allocated(self, x: Tensor) -> None:
        """Note the memory of a result, unless it is a view of something older."""
        if not x.is_cuda:
            return
        storage = x.untyped_storage()
        key = storage._cdata
        if key in self._storages:
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        self._storages[key] = weakref.ref(storage, lambda _: self._freed(key)), size
        self.live += size
        self.peak = max(self.peak, self.live)

    def _freed(self, key: int) -> None:
        self.live -= self._storages.pop(key)[1]


def place(libraries: bool = False) -> str:
    """Return the file and function that called the current operator.

    That is the innermost one of esd_splat, or with ``libraries`` of one of ``LIBRARIES`` too.
    """
    frame = sys._getframe(1)
    while frame is not None:
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        found = ""
        if file.startswith(PACKAGE):
            found = file.removeprefix(PACKAGE)
        elif libraries and (parts := Path(file).parts) and "site-packages" in parts:
            after = parts[parts.index("site-packages") + 1 :]
            found = "/".join(after) if after[0] in LIBRARIES else ""
        # Comprehensions are functions of their own before Python 3.12.
        if found and not function.startswith("<"):
            return f"{found} {function}"
        frame = frame.f_back
    return "backward"
