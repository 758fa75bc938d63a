"""Where a run computes: its device, and what draws the Gaussians on it."""

import dataclasses
import shutil
import warnings
from collections.abc import Callable

import torch

from esd_splat.config import Config
from esd_splat.errors import BackendError
from esd_splat.scene import kernels
from esd_splat.scene.rasterize import resolve_backend

DECIDED = ("device", "backend")
"""Keys whose ``auto`` is decided once, before the first step of a run."""
BUILDS = "https://pytorch.org/get-started/locally"
"""Where users choose a build of torch."""
NO_GPU = "torch finds no CUDA device"
ABSENT = ("not compiled with CUDA", "no NVIDIA driver", "No CUDA GPUs")
"""Words of torch's errors where nothing is wrong, except that there may be no GPU."""
FAULTS = {
    "no kernel image": f"torch has no kernels for its architecture; choose another build: {BUILDS}",
    "out of memory": "other programs fill it; end or await those that nvidia-smi lists",
}
"""What to say of errors of a device that torch finds and cannot use, by their words."""


def settle(
    config: Config, before: Config, say: Callable[[str], None], *, resumed: bool = False
) -> Config:
    """``config`` with a device and a backend in place of ``auto``.

    Args:
        config: what was asked for.
        before: what the run began with; ``auto`` goes on meaning what it meant there.
        say: is told, in a line each, what draws, and what is slower than it could be.
        resumed: whether the run goes on from a checkpoint.

    Raises:
        BackendError: this machine cannot compute as asked.
    """
    asked = {
        name: getattr(before if getattr(config, name) == "auto" else config, name)
        for name in DECIDED
    }
    # A resumed run must not move to the CPU, where the same seed gives another scene.
    other = "go on with the run where it began" if resumed else "use device=cpu"
    device = _device(asked["device"], other, say)
    backend = resolve_backend(asked["backend"], device.type, say)
    if device.type == "cuda" and backend != "cpu" and (why := kernels.missing_on_cuda()):
        say(f"PyTorch densifies, more slowly than our kernels ({why}); {kernels.COMPILE_CUDA}")
    return dataclasses.replace(config, device=str(device), backend=backend)


def why_no_cuda() -> str:
    """Return the reason why torch finds no CUDA device, in a line. Empty if it finds one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the reason, which init() tells every time
        if torch.cuda.is_available():
            return ""
    said = ""
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:
        said = str(error).partition("\n")[0].partition(" Please ")[0].rstrip(".")
    if not any(words in said for words in ABSENT):
        return f"torch cannot use the GPU ({said})"
    if torch.version.cuda is None and torch.version.hip is None and shutil.which("nvidia-smi"):
        return "torch is a build without CUDA, on a machine with an NVIDIA driver"
    return NO_GPU


def way_out(why: str) -> str:
    """Say what to do about ``why_no_cuda``."""
    if "driver on your system is too old" in why:
        return f"update the NVIDIA driver, or install torch for an older CUDA: {BUILDS}"
    return f"install a CUDA build of torch and a driver: {BUILDS}"


def _device(name: str, other: str, say: Callable[[str], None]) -> torch.device:
    """Return the device that ``name`` means, once it has computed something."""
    if name == "mps" and not torch.backends.mps.is_available():
        raise BackendError(f"device: mps was asked for and torch finds no Apple GPU; {other}")
    if name in ("cpu", "mps"):
        return torch.device(name)
    if why := why_no_cuda():
        if name == "auto":
            if why != NO_GPU:
                say(f"{why}, so the CPU computes; {way_out(why)}")
            return torch.device("cpu")
        raise BackendError(f"device: {name} was asked for and {why}; {other}, or {way_out(why)}")
    device = torch.device("cuda" if name == "auto" else name)
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        known = " or ".join(f"cuda:{index}" for index in range(count))
        raise BackendError(
            f"device: {name} was asked for and torch finds {count} CUDA device{'s' * (count > 1)}; "
            f"use {known}"
        )
    try:
        torch.ones(1, device=device).add(1).item()
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        fault = next((text for words, text in FAULTS.items() if words in said), said)
        card = torch.cuda.get_device_name(device)
        raise BackendError(
            f"device: {device} ({card}) cannot be used: {fault}, or {other}"
        ) from error
    return device
