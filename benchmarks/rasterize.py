"""How fast the CPU draws: ``python -m benchmarks.rasterize``.

Forward and backward of one view of a ball full of Gaussians, denser than trained objects are; the
compiled kernels and the reference in one process, in turns, as process CPU time on one thread
(which equals wall time on a free core, and bears a busy machine), and wall time on more threads.
"""

import argparse
import datetime
import math
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch

from esd_splat.cameras import Cameras
from esd_splat.files import write_text
from esd_splat.gaussians import SH_C0, Gaussians
from esd_splat.rasterize import rasterize

SIZES = ((64, 5_000), (128, 20_000), (256, 50_000), (512, 100_000))
GOALS_MS = (5, 14, 40, 100)
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


def step(scene: Gaussians, cameras: Cameras, backend: str) -> Callable[[], None]:
    """Draws, and pulls the gradients of every parameter."""
    leaf = scene.map(lambda v: v.clone().requires_grad_())
    weight = torch.randn(1, 3, cameras.height, cameras.width)
    black = torch.zeros(1, 3)

    def run() -> None:
        (rasterize(leaf, cameras, black, backend).images * weight).sum().backward()

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


def peak_mb(run: Callable[[], None]) -> float:
    """Memory that a second call still adds to the process, at most, in MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def processor() -> str:
    """What the system calls it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def main() -> None:
    """Measure and print the table; with ``--write``, also into ``results``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="of the last column")
    parser.add_argument("--skip-reference", action="store_true", help="it takes most of the time")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    rows = []
    for (size, count), goal in zip(SIZES, GOALS_MS, strict=True):
        scene, cameras = ball(count, size)
        torch.set_num_threads(1)
        native = step(scene, cameras, "cpu")
        memory = peak_mb(native)
        ours = best_ms(native, time.process_time, args.repeats)
        wall = best_ms(native, time.perf_counter, args.repeats)
        torch.set_num_threads(args.threads)
        shared = best_ms(native, time.perf_counter, args.repeats)
        torch.set_num_threads(1)
        ratio = "-"
        if not args.skip_reference:
            slow = best_ms(step(scene, cameras, "reference"), time.process_time, 1)
            ratio = f"{slow:.0f} ms, {slow / ours:.0f} x"
        cells = f"{ours:.1f}", str(goal), ratio, f"{wall / shared:.2f} x", f"{memory:.0f}"
        rows.append(f"| {size} x {size}, {count // 1000} k | " + " | ".join(cells) + " |")
        print(rows[-1], flush=True)
    head = ["", "native, ms", "goal, ms", "reference", f"{args.threads} threads", "peak, MB"]
    table = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *rows]
    about = (
        f"{datetime.date.today()}, {processor()}, torch {torch.__version__}, "
        f"`python -m benchmarks.rasterize`. Forward and backward, one view, every parameter; "
        "process CPU time of one thread, the best of several; the reference in the same process."
    )
    if args.write:
        path = Path(__file__).parent / "results" / "rasterize.md"
        write_text(path, "\n".join(["# The CPU rasterizer", "", about, "", *table]) + "\n")


if __name__ == "__main__":
    main()
