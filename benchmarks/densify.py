"""How fast we densify: ``python -m benchmarks.densify``.

One refinement of a scene, 5 % of whose rows are cloned, 5 % split and 5.5 % dropped, parameters and
both of Adam's moments: by our kernels, by our PyTorch, and by gsplat's operators, in one run.
"Kernels" and "torch" are the whole edit as a run carries it out, deciding included; gsplat's are
given their masks, and so spared what they would decide. On the CPU in process time on one thread,
on CUDA in wall time.
"""

import argparse
import datetime
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.rasterize import resident_peak
from esd_splat.scene import kernels
from esd_splat.scene.densify import CloneSplit
from esd_splat.scene.densify.growth import CLONE, DROP, SPLIT, Growth
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.optim import Optim, apply_edit, make_adam, scene_of

SIZES = ((20_000, 0), (100_000, 0), (100_000, 3), (1_000_000, 0), (1_000_000, 3))
"""Gaussians, and the degree of their harmonics."""
CLONED, SPLIT_SHARE, DROPPED = 0.05, 0.05, 0.055
STRATEGY = CloneSplit(every=1, window=(0.0, 1.0), min_count=1, max_count=10**8, grow_ratio=5.0)


def scene_and_state(count: int, degree: int, device: str) -> tuple[Gaussians, dict[str, Tensor]]:
    """Rows of which the strategy clones, splits and drops the stated shares."""
    g = torch.Generator().manual_seed(0)
    u = torch.rand(count, generator=g)
    split = (u >= CLONED) & (u < CLONED + SPLIT_SHARE)
    drop = u > 1 - DROPPED
    logits = torch.randn(count, generator=g).abs() - torch.where(drop, 20.0, 0.0)
    scene = Gaussians(
        means=torch.randn(count, 3, generator=g),
        quats=torch.randn(count, 4, generator=g),
        log_scales=torch.where(split, -2.0, -5.0)[:, None].expand(-1, 3).contiguous(),
        opacity_logits=logits,
        sh0=torch.randn(count, 1, 3, generator=g),
        shN=torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=g),
    )
    steep = torch.where(u < CLONED + SPLIT_SHARE, 100.0, 1.0)
    state = {"gradient": steep.double(), "seen": torch.ones(count, dtype=torch.int32)}
    return scene.map(lambda v: v.to(device)), {k: v.to(device) for k, v in state.items()}


Refine = Callable[[], None]


def ours(count: int, degree: int, device: str) -> tuple[Refine, Refine]:
    """A refinement, and what sets its scene back to before it."""
    scene, state = scene_and_state(count, degree, device)
    optimizer = _adam(scene)
    # A run's buffers have room from its first edit on; so here.
    apply_edit(optimizer, Growth(torch.full((count,), CLONE).byte().to(device), 2 * count, 0, 0))

    def reset() -> None:
        action = torch.ones(len(scene_of(optimizer)), dtype=torch.uint8, device=device)
        action[count:] = DROP
        apply_edit(optimizer, Growth(action, count, 0, 0))
        for name, value in vars(scene_of(optimizer)).items():
            value.data.copy_(getattr(scene, name))

    def refine() -> None:
        edit = STRATEGY.edit(scene_of(optimizer), state, _never, 1, 2, 0)
        assert edit is not None
        apply_edit(optimizer, edit)

    reset()
    return refine, reset


def gsplats(count: int, degree: int, device: str) -> tuple[Refine, Refine]:
    """The same by gsplat's operators, with masks made before."""
    from gsplat.strategy.ops import duplicate, remove, split

    scene, _ = scene_and_state(count, degree, device)
    names = dict(
        zip(vars(scene), ("means", "quats", "scales", "opacities", "sh0", "shN"), strict=True)
    )
    params: dict[str, Any] = {}
    optimizers: dict[str, Any] = {}
    u = torch.rand(count, generator=torch.Generator().manual_seed(0)).to(device)
    cloned = u < CLONED
    halved = (u >= CLONED) & (u < CLONED + SPLIT_SHARE)

    def reset() -> None:
        for name, theirs in names.items():
            params[theirs] = nn.Parameter(getattr(scene, name).clone())
            optimizers[theirs] = torch.optim.Adam([params[theirs]])
            params[theirs].grad = torch.zeros_like(params[theirs])
            optimizers[theirs].step()
            params[theirs].grad = None

    def refine() -> None:
        duplicate(params, optimizers, {}, cloned)
        more = torch.zeros(int(cloned.sum()), dtype=torch.bool, device=device)
        split(params, optimizers, {}, torch.cat([halved, more]))
        remove(params, optimizers, {}, params["opacities"].flatten().sigmoid() < 0.005)

    reset()
    return refine, reset


def _adam(scene: Gaussians) -> torch.optim.Adam:
    optimizer = make_adam(scene, Optim())
    for value in vars(scene_of(optimizer)).values():
        value.grad = torch.zeros_like(value)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def _never() -> Tensor:
    raise AssertionError("the scene is not at its limits")


@contextmanager
def without_kernels() -> Iterator[None]:
    """As if none were compiled."""
    with mock.patch.object(kernels, "MISSING", "switched off"):
        yield


def best_ms(refine: Refine, reset: Refine, device: str, repeats: int) -> float:
    """Shortest of ``repeats``, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        reset()
        _wait(device)
        clock = time.perf_counter if device == "cuda" else time.process_time
        start = clock()
        refine()
        _wait(device)
        times.append(clock() - start)
    return 1e3 * min(times[1:])


def extra_mb(refine: Refine, reset: Refine, device: str) -> float:
    """Memory that a refinement adds at most, MB."""
    reset()
    if device != "cuda":
        return resident_peak(refine)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    refine()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


class Traffic(TorchDispatchMode):
    """Bytes that operators read and write; views are free, gathers count the rows they gather."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.name()
        if name.startswith("esd_splat::"):
            self.total += _native_bytes(name, args)
        elif not func.is_view and "detach" not in name:
            written = sum(x.nbytes for x in _tensors(out))
            read = sum(x.nbytes for x in _tensors(args))
            if "empty" in name:
                read = 0
            elif "index.Tensor" in name:
                read = written
            self.total += read + written
        return out


def _native_bytes(name: str, args: Any) -> int:
    """What a kernel has to read and write at least, its scratch left out."""
    if name.endswith("classify"):
        fields, gradient, seen = args[:3]
        return sum(x.nbytes for x in fields) + 2 * (gradient.nbytes + seen.nbytes) + 2 * len(seen)
    action, fields, moments, count = args[:4]
    row = sum(x[0].nbytes for x in [*fields, *moments])
    growing = int((action >= CLONE).sum())
    moved = int((action[count:] != DROP).sum()) if count < len(action) else 0
    splits = int((action == SPLIT).sum())
    return 3 * len(action) + growing * 2 * row + moved * 2 * row + splits * row


def _tensors(tree: Any) -> list[Tensor]:
    from torch.utils._pytree import tree_leaves

    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def main() -> None:
    """Print a table, one line a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--counts", nargs="+", type=int, help="only sizes of so many Gaussians")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if not kernels.has("grow", torch.empty(0, device=args.device)):
        parser.error(f"no kernels for {args.device}: {kernels.MISSING or kernels.COMPILE}")
    where = torch.cuda.get_device_name() if args.device == "cuda" else platform.machine()
    print(f"{datetime.date.today()}, {where}, torch {torch.__version__}, one refinement")
    print(
        "| Gaussians | SH | kernels, ms | torch, ms | gsplat, ms | gsplat / kernels "
        "| kernels, B a Gaussian | gsplat, B a Gaussian | kernels, extra MB | gsplat, extra MB |"
    )
    print("|---" * 10 + "|")
    for count, degree in SIZES:
        if args.counts and count not in args.counts:
            continue
        mine, theirs = ours(count, degree, args.device), gsplats(count, degree, args.device)
        compiled = best_ms(*mine, args.device, args.repeats)
        with without_kernels():
            plain = best_ms(*mine, args.device, args.repeats)
        gsplat = best_ms(*theirs, args.device, args.repeats)
        moved, memory = [], []
        for refine, reset in (mine, theirs):
            memory.append(extra_mb(refine, reset, args.device))
            reset()
            with Traffic() as traffic:
                refine()
            moved.append(traffic.total / count)
        print(
            f"| {count} | {degree} | {compiled:.2f} | {plain:.2f} | {gsplat:.2f} "
            f"| {gsplat / compiled:.1f} | {moved[0]:.0f} | {moved[1]:.0f} "
            f"| {memory[0]:.0f} | {memory[1]:.0f} |",
            flush=True,
        )


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
