"""Where a run computes: its device, and what draws the Gaussians on it."""

import dataclasses
from collections.abc import Callable

import torch

from esd_splat.config import Config
from esd_splat.errors import BackendError
from esd_splat.scene import kernels
from esd_splat.scene.rasterize import resolve_backend

DECIDED = ("device", "backend")
"""Keys whose ``auto`` is decided once, before the first step of a run."""


def settle(
    config: Config, before: Config, say: Callable[[str], None], *, resumed: bool = False
) -> Config:
    """``config`` with a device and a backend in place of ``auto``.

    Args:
        config: what was asked for.
        before: what the run began with; ``auto`` goes on meaning what it meant there.
        say: is told, in a line each, which kernels are missing.
        resumed: whether the run goes on from a checkpoint.

    Raises:
        BackendError: this machine cannot compute as asked.
    """
    asked = {
        name: getattr(before if getattr(config, name) == "auto" else config, name)
        for name in DECIDED
    }
    device = _device(asked["device"], resumed=resumed)
    backend = resolve_backend(asked["backend"], device.type)
    if backend == "reference" and device.type == "cpu" and kernels.MISSING:
        say(f"no compiled kernels, so PyTorch draws, more slowly; {kernels.COMPILE}")
    if device.type == "cuda" and not kernels.has("grow", torch.empty(0, device=device)):
        say(f"no kernels for CUDA, so PyTorch densifies, more slowly; {kernels.COMPILE}")
    return dataclasses.replace(config, device=device.type, backend=backend)


def _device(name: str, *, resumed: bool) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        # A resumed run must not move to the CPU, where the same seed gives another scene.
        other = "go on with the run where it began" if resumed else "use device=cpu"
        raise BackendError(
            f"device: cuda was asked for and torch finds no CUDA device; {other}, or install a "
            "CUDA build of torch and a driver"
        )
    return torch.device(name)
