"""gsplat's kernels, which gsplat has torch compile when they are first needed.

Here they are looked for, given a CUDA toolkit, compiled and loaded, and tried on one Gaussian.
"""

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from esd_splat import cuda_toolkit

SOURCES = 29
"""The number of files that gsplat 1.5 compiles."""
MINUTE = 60.0
"""Seconds between signs of life of a build."""


def folder() -> Path:
    """Return where gsplat has torch compile; asking torch itself would make the folder."""
    from torch.utils.cpp_extension import get_default_build_root

    version = f"py{sys.version_info.major}{sys.version_info.minor}{sys.abiflags}"
    version += f"_cu{str(torch.version.cuda).replace('.', '')}"
    default = Path(get_default_build_root()) / version
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR", default)) / "gsplat_cuda"


def compiled() -> Path | None:
    """Return the compiled extension, which came with gsplat or was compiled earlier, if any."""
    spec = importlib.util.find_spec("gsplat")
    packages = map(Path, spec.submodule_search_locations or [] if spec else [])
    found = [so for package in packages for so in package.glob("csrc.*")]
    return next(iter([*found, *folder().glob("gsplat_cuda.so")]), None)


def missing() -> str:
    """Load gsplat's kernels. Return the reason in one line if that fails, else an empty string.

    Without a CUDA device nothing is loaded and the result is empty, as gsplat would start a build
    of twenty minutes.
    """
    return _missing() if torch.cuda.is_available() else ""


@cache
def _missing() -> str:
    if torch.version.hip:
        return "torch is built for ROCm, and gsplat has kernels for CUDA only"
    if importlib.util.find_spec("gsplat") is None:
        return "gsplat is not installed"
    if compiled() is None:
        toolkit = cuda_toolkit.choose(torch.version.cuda)
        if toolkit is None:
            return cuda_toolkit.missing(torch.version.cuda)
        os.environ.update(toolkit.environment())
        from torch.utils import cpp_extension

        cpp_extension.CUDA_HOME = str(toolkit.home)  # it may have looked for itself already
    # gsplat compiles with ninja, which pip installs beside the interpreter, often not on PATH.
    beside = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), beside])
    try:
        loaded = importlib.import_module("gsplat.cuda._backend")._C
    except (AttributeError, ImportError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {cuda_toolkit.compiler_errors(str(error))}"
    return _fails() if loaded is not None else "it finds no CUDA toolkit"


def _fails() -> str:
    """Draw one Gaussian. Return the reason if that fails, else an empty string.

    It fails if a newer toolkit than the driver compiled the kernels, or for other cards.
    """
    import gsplat

    def on_gpu(*values: float) -> torch.Tensor:
        return torch.tensor([values], device="cuda")

    view = torch.eye(4, device="cuda")[None]
    K = torch.tensor([[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]], device="cuda")
    try:
        images, *_ = gsplat.rasterization(
            means=on_gpu(0, 0, 2),
            quats=on_gpu(1, 0, 0, 0),
            scales=on_gpu(1, 1, 1),
            opacities=on_gpu(0.9)[0],
            colors=on_gpu(1, 1, 1),
            viewmats=view,
            Ks=K,
            width=16,
            height=16,
            packed=False,
        )
        centre = images[0, 8, 8, 0].item()
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return "" if 0.5 < centre < 1 else f"a white dot of opacity 0.9 becomes {centre:.2g}"


@contextmanager
def announced(say: Callable[[str], None]) -> Iterator[None]:
    """Tell ``say`` of a build that the code inside may start, and once a minute that it lives."""
    able = torch.cuda.is_available() and not torch.version.hip
    if not able or compiled() or cuda_toolkit.choose(torch.version.cuda) is None:
        yield
        return
    say(
        f"gsplat compiles its kernels, once for this machine, in {folder()}: minutes with many "
        "cores, some twenty with two"
    )
    over = threading.Event()

    def watch() -> None:
        minutes = 0
        while not over.wait(MINUTE):
            minutes += 1
            done = len(list(folder().glob("*.o")))
            say(f"gsplat still compiles: {done} of {SOURCES} files after {minutes} min")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
