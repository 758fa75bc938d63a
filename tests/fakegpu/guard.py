"""What autograd asks of CUDA, answered where there is none.

Fake tensors need no kernels, but autograd asks for the current device and its streams.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).with_name("guard.cpp")


@contextmanager
def guard() -> Iterator[None]:
    """While open, autograd takes tensors on ``cuda:0``."""
    library = _library()
    library.pretend(True)
    try:
        yield
    finally:
        library.pretend(False)


@cache
def _library() -> ctypes.CDLL:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    torch_home = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "guard.so"
        where = [f"-I{torch_home / 'include'}", f"-L{torch_home / 'lib'}", "-o", str(library)]
        options = ["-std=c++20", "-shared", "-fPIC", *where]
        libraries = ["-ltorch_cpu", "-lc10"]
        subprocess.run(["g++", *options, str(SOURCE), *libraries], check=True)
        return ctypes.CDLL(str(library))
