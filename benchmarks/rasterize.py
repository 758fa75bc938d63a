"""How fast we draw: ``python -m benchmarks.rasterize``.

Forward and backward of one view of a ball full of Gaussians, denser than trained objects are, with
everything that is compared in one process. On the CPU in process time on one thread, which equals
wall time on a free core and bears a busy machine; how much more threads gain, in wall time, and so
only on a free machine. With ``--device cuda`` gsplat is what draws, in wall time.

Another rasterizer joins in with ``--peer module:function``: it takes ``Gaussians``, ``Cameras`` and
a background as ours do, and returns images. No package is known to us that draws Gaussians on a CPU
with gradients and without patching, so none is looked for.
"""

import argparse
import datetime
import importlib
import math
import multiprocessing
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from esd_splat.files import write_text
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import SH_C0, Gaussians
from esd_splat.scene.rasterize import rasterize, resolve_backend

SIZES = {64: 5_000, 128: 20_000, 256: 50_000, 512: 100_000}
"""Gaussians, by the side of the image in pixels."""
GOALS_MS = {64: 5, 128: 14, 256: 40, 512: 100}
"""What the project asks of one thread."""
BALL = 0.5


def ball(count: int, size: int, k: int = 0) -> tuple[Gaussians, Cameras]:
    """Anisotropic Gaussians that fill a ball, and a camera that it fills most of."""
    g = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    radius = BALL * torch.rand(count, 1, generator=g) ** (1 / 3)
    spacing = (4 / 3 * math.pi * BALL**3 / count) ** (1 / 3)
    scene = Gaussians(
        means=direction * radius,
        quats=torch.randn(count, 4, generator=g),
        log_scales=math.log(0.6 * spacing) + 0.4 * torch.randn(count, 3, generator=g),
        opacity_logits=1.5 * torch.randn(count, generator=g),
        sh0=(torch.rand(count, 1, 3, generator=g) - 0.5) / SH_C0,
        shN=0.1 * torch.randn(count, k, 3, generator=g),
    )
    viewmat = torch.eye(4)
    viewmat[2, 3] = 1.6
    K = torch.tensor([[1.25 * size, 0, size / 2], [0, 1.25 * size, size / 2], [0, 0, 1.0]])
    return scene, Cameras(viewmat[None], K[None], size, size)


Draw = Callable[[Gaussians, Cameras, Tensor], Tensor]


def ours(backend: str) -> Draw:
    """One of our own, as a peer would be."""
    return lambda scene, cameras, rgb: rasterize(scene, cameras, rgb, backend).images


def peer(name: str) -> Draw:
    """``module:function``."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def step(size: int, draw: Draw, device: str) -> Callable[[], None]:
    """Draws, and pulls the gradients of every parameter; returns when that is done."""
    scene, cameras = ball(SIZES.get(size, size), size)
    leaf = scene.map(lambda v: v.to(device).requires_grad_())
    cameras, black = cameras.to(device), torch.zeros(1, 3, device=device)
    weight = torch.randn(1, 3, size, size, device=device)

    def run() -> None:
        (draw(leaf, cameras, black) * weight).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def best_ms(run: Callable[[], None], clock: Callable[[], float], repeats: int) -> float:
    """Shortest of ``repeats``, after one that warms up."""
    run()
    times = []
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
    return 1e3 * min(times)


def peak_mb(size: int, device: str) -> float:
    """Memory that the first call adds at most, gradients included, in MB."""
    draw = ours(resolve_backend("auto", device))
    step(8, draw, device)()  # loads code, starts threads
    run = step(size, draw, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    return resident_peak(run)


def resident_peak(run: Callable[[], None]) -> float:
    """Memory that a call adds at most to what is resident, in MB. Linux only."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    before = _resident_mb("VmRSS")
    run()
    return _resident_mb("VmHWM") - before


def _resident_mb(name: str) -> float:
    """An entry of Linux's ``/proc/self/status``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def apart(size: int, device: str) -> str:
    """``peak_mb`` in a process of its own: memory that others freed would be used again."""
    if device == "cpu" and not Path("/proc/self/clear_refs").exists():
        return "-"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return f"{pool.submit(peak_mb, size, device).result():.0f}"


def measure(size: int, args: argparse.Namespace) -> list[str]:
    """One row of the table."""
    cpu = args.device == "cpu"
    clock = time.process_time if cpu else time.perf_counter
    torch.set_num_threads(1)
    native = step(size, ours(resolve_backend("auto", args.device)), args.device)
    alone = best_ms(native, clock, args.repeats)
    cells = [f"{alone:.1f}"]
    others = [] if args.skip_reference else [ours("reference")]
    for draw in [*others, *map(peer, args.peer)]:
        slow = best_ms(step(size, draw, args.device), clock, 1)
        cells.append(f"{slow:.0f} ms, {slow / alone:.1f} x")
    if cpu:
        wall = best_ms(native, time.perf_counter, args.repeats)
        torch.set_num_threads(args.threads)
        shared = best_ms(native, time.perf_counter, args.repeats)
        cells = [cells[0], str(GOALS_MS[size]), *cells[1:], f"{wall / shared:.2f} x"]
    return [f"{size} x {size}, {SIZES[size] // 1000} k", *cells, apart(size, args.device)]


def processor() -> str:
    """What the system calls it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def main() -> None:
    """Measure and print the table; with ``--write``, also into ``results``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="of the last but one column")
    parser.add_argument("--skip-reference", action="store_true", help="it takes most of the time")
    parser.add_argument("--peer", action="append", default=[], metavar="module:function")
    parser.add_argument("--write", action="store_true", help="the CPU's table into results")
    args = parser.parse_args()
    cpu, peers = args.device == "cpu", ["reference"] * (not args.skip_reference) + args.peer
    names = ["", "native, ms", "goal, ms"] if cpu else ["", "gsplat, ms"]
    names += [*peers, f"{args.threads} threads"] if cpu else peers
    table = [line([*names, "peak, MB"]), "|" + " --- |" * (len(names) + 1)]
    print("\n".join(table), flush=True)
    for size in args.sizes:
        table.append(line(measure(size, args)))
        print(table[-1], flush=True)
    about = (
        f"{datetime.date.today()}, {processor()}, torch {torch.__version__}, "
        f"`python -m benchmarks.rasterize`. Forward and backward, one view, every parameter; "
        "process CPU time of one thread, the best of several; the reference in the same process."
    )
    if args.write and cpu:
        path = Path(__file__).parent / "results" / "rasterize.md"
        write_text(path, "\n".join(["# The CPU rasterizer", "", about, "", *table]) + "\n")


def line(cells: list[str]) -> str:
    """One line of a table in markdown."""
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
