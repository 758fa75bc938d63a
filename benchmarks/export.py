"""How fast and how small scene files are: ``python -m benchmarks.export``.

A million Gaussians around a sphere, whose colours are smooth over it but for noise, to each format:
by us, by gsplat's exporter, and by PlayCanvas's splat-transform where node has it, in one run. Each
measurement is made in a process of its own, in processor time on one thread, which other jobs on
the machine hardly change. Of ours and gsplat's it is the call that writes a scene which is in
memory, and the memory that it adds at most. splat-transform is a program, so its numbers are of all
it does, reading a ``.ply`` included; what that alone takes, its row for ``.ply`` shows.

Writes ``benchmarks/results/export.md``.
"""

import argparse
import datetime
import importlib.metadata
import math
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.rasterize import resident_peak
from esd_splat.files import write_text
from esd_splat.formats import EXPORTERS, load_scene, save_ply
from esd_splat.formats.load import DECODERS
from esd_splat.scene.gaussians import Gaussians

RESULTS = Path(__file__).parent / "results" / "export.md"
GSPLATS: dict[str, Any] = {"ply": "ply", "compressed.ply": "ply_compressed", "splat": "splat"}
VIEWERS = Path(__file__).parent.parent / "tests" / "viewers" / "node_modules"
LIMIT_S = 300
"""Of processor time for splat-transform, whose k-means on a CPU would take hours."""
HEADER = "| format | SH | writer | write, s | memory, MB | size, MB | bytes a Gaussian | read, s |"


def surface(count: int, degree: int) -> Gaussians:
    """Small Gaussians in a thick shell; their coefficients are linear in the normal, and noise."""
    g = torch.Generator().manual_seed(0)
    normal = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    k = (degree + 1) ** 2 - 1
    smooth = normal @ torch.randn(3, 3 * k, generator=g) * 0.15
    spacing = math.sqrt(4 * math.pi * 0.5**2 / count)
    return Gaussians(
        means=normal * (0.5 + 0.1 * torch.rand(count, 1, generator=g)),
        quats=torch.randn(count, 4, generator=g),
        log_scales=math.log(spacing) + 0.6 * torch.randn(count, 3, generator=g),
        opacity_logits=1 + 2 * torch.randn(count, generator=g),
        sh0=(0.8 * (4 * normal).sin() + 0.2 * torch.randn(count, 3, generator=g))[:, None],
        shN=(smooth + 0.05 * torch.randn(count, 3 * k, generator=g)).view(count, k, 3),
    )


def ours(name: str, scene: Gaussians, path: Path) -> None:
    """As ``export.formats`` and the command write it."""
    EXPORTERS[name]().write(scene, path)


def gsplats(name: str, scene: Gaussians, path: Path) -> None:
    """The formats that gsplat has, as its users call it."""
    from gsplat.exporter import export_splats

    export_splats(
        scene.means,
        scene.log_scales,
        scene.quats,
        scene.opacity_logits,
        scene.sh0,
        scene.shN,
        format=GSPLATS[name],
        save_to=str(path),
    )


PAGE = """\
# Scene files

{when}, `OMP_NUM_THREADS=1 python -m benchmarks.export --count {count}`.
{count} Gaussians around a sphere, colours smooth over it but for noise, to each format. Processor
seconds of one thread, each in a process of its own; memory is what writing adds at most to the
scene. Of splat-transform both are those of the whole program, which reads a `.ply` first; it is
not asked to read back, and was stopped after {limit} s. gsplat's exporter is what writes our
compressed `.ply` and `.splat` too.

{table}
"""

Writer = Callable[[str, Gaussians, Path], None]


def measured(
    write: Writer, name: str, count: int, degree: int, path: Path
) -> tuple[float, float, float]:
    """Seconds to write, MB that writing adds at most, and seconds to read the file back."""
    torch.set_num_threads(1)
    write(name, surface(8, degree), path)  # imports what it needs
    scene = surface(count, degree)
    start = time.process_time()
    memory = resident_peak(lambda: write(name, scene, path))
    seconds = time.process_time() - start
    start = time.process_time()
    read = len(load_scene(path)) if path.suffix in DECODERS else 0
    return seconds, memory, time.process_time() - start if read else math.nan


def apart(*arguments: Any) -> tuple[float, float, float]:
    """``measured`` in a process of its own: memory that others freed would be used again."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measured, *arguments).result()


def splat_transform(name: str, source: Path, path: Path) -> tuple[float, float, float] | None:
    """The same of PlayCanvas's program, as a whole; ``None`` where it is not installed.

    It leaves no file where it took ``LIMIT_S`` seconds.
    """
    modules = Path(os.environ.get("ESD_SPLAT_NODE_MODULES", VIEWERS))
    program = modules / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
    node = shutil.which("node")
    if node is None or not program.exists():
        return None
    options = ["--quiet", "--overwrite", "--gpu", "cpu", "--max-workers", "0"]
    version = ["--spz-version", "3"] if name == "spz" else []
    command = [node, str(program), *options, *version, str(source), str(path)]
    child = subprocess.Popen(["prlimit", f"--cpu={LIMIT_S}", *command])
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, -signal.SIGXCPU, -signal.SIGKILL):
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, math.nan


def line(name: str, degree: int, writer: str, numbers: Any, path: Path, count: int) -> str:
    """A row of the table."""
    seconds, memory, read = numbers
    writing, sizes = f"> {LIMIT_S}", " | "
    if path.exists():
        size = path.stat().st_size
        writing, sizes = f"{seconds:.2f}", f"{size / 1e6:.1f} | {size / count:.1f}"
    reading = "" if math.isnan(read) else f"{read:.2f}"
    return f"| .{name} | {degree} | {writer} | {writing} | {memory:.0f} | {sizes} | {reading} |"


def main() -> None:
    """Print the table, line by line, and write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="Gaussians")
    parser.add_argument("--formats", nargs="+", default=sorted(EXPORTERS))
    parser.add_argument("--degrees", nargs="+", type=int, default=[0, 3])
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [HEADER, "|---" * 8 + "|"]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as folder:
        for degree in args.degrees:
            source = Path(folder) / f"source-{degree}.ply"
            save_ply(surface(args.count, degree), source)
            for name in args.formats:
                for writer in ("ours", "gsplat", "splat-transform"):
                    path = Path(folder) / f"{writer}-{degree}.{name}"
                    if writer == "splat-transform":
                        numbers = splat_transform(name, source, path)
                    elif writer == "gsplat" and name not in GSPLATS:
                        numbers = None
                    else:
                        write = gsplats if writer == "gsplat" else ours
                        numbers = apart(write, name, args.count, degree, path)
                    if numbers:
                        lines.append(line(name, degree, writer, numbers, path, args.count))
                        print(lines[-1], flush=True)
    write_text(args.out, _page(args.count, lines))


def _page(count: int, lines: list[str]) -> str:
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("torch", "gsplat"))
    machine = platform.processor() or platform.machine()
    return PAGE.format(
        when=f"{datetime.date.today()}, {machine}, {versions}, load {os.getloadavg()[0]:.1f}",
        count=count,
        limit=LIMIT_S,
        table="\n".join(lines),
    )


if __name__ == "__main__":
    main()
