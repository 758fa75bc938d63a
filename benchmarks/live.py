"""What the live view costs a run: ``python -m benchmarks.live --write``.

One run of the embedded teacher goes on while it is looked at by nobody and by somebody in turn, in
short blocks: what else the machine does falls on all alike. A row says how long a step took, as a
multiple of the steps without a view in the blocks beside it. The browser draws with the processor
here, on the cores that the run needs too; that is the browser's cost, and no part of the page's, so
its row is also given with a client that reads everything and draws nothing.
"""

import argparse
import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
import torch
import viser
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from esd_splat.config import Config, load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.step_config import StepConfig
from esd_splat.run.controls import Controls
from esd_splat.scene.denormals import denormals_flushed
from esd_splat.scene.rasterize import resolve_backend
from esd_splat.show.live import View
from esd_splat.show.live.seen import prepare

RESULT = Path(__file__).parent / "results" / "live.md"
CAMERA = {
    "type": "ViewerCameraMessage",
    **{"wxyz": (1.0, 0.0, 0.0, 0.0), "position": (0.0, 0.0, 3.0), "look_at": (0.0, 0.0, 0.0)},
    **{"fov": 0.7, "near": 0.01, "far": 100.0, "up_direction": (0.0, 1.0, 0.0)},
    **{"image_height": 800, "image_width": 1280},
}
"""What a browser says first."""
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@contextmanager
def stalled(port: int) -> Iterator[None]:
    """Somebody who connects, and never reads."""
    with _connection(port):
        yield


@contextmanager
def reading(port: int) -> Iterator[None]:
    """Somebody who reads everything, and draws nothing."""
    with _connection(port) as connection:

        def read() -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    connection.recv()

        threading.Thread(target=read, daemon=True).start()
        yield


@contextmanager
def chromium(port: int) -> Iterator[None]:
    """A browser with the page open."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_role("button", name="Stop").wait_for(timeout=60_000)
        yield
        browser.close()


CLIENTS: dict[str, Callable[[int], AbstractContextManager[None]]] = {
    "nobody looks": lambda port: contextlib.nullcontext(),
    "a client that reads all": reading,
    "a client that never reads": stalled,
    "Chromium, drawing in software": chromium,
}


@contextmanager
def _connection(port: int):
    protocol = Subprotocol(f"viser-v{viser.__version__}")
    url = f"ws://127.0.0.1:{port}"
    with connect(url, subprotocols=[protocol], max_size=None, close_timeout=0.1) as connection:
        connection.send(msgspec.msgpack.encode(CAMERA))
        yield connection


def _steps(run: Distillation, seconds: float, view: View | None) -> tuple[float, float]:
    """Seconds of the clock and of the processor that a step takes, in at least so many seconds."""
    start, burnt, before = time.perf_counter(), time.process_time(), run.done
    while (took := time.perf_counter() - start) < seconds:
        logged = run.step()
        if view is not None:
            view.controls.rest(lambda logged=logged: view.between_steps(run, logged, None))
    steps = run.done - before
    return took / steps, (time.process_time() - burnt) / steps


def _port(line: str) -> int:
    """Of the page, from what a run says of it."""
    return int(line.rpartition("127.0.0.1:")[2])


@denormals_flushed()
def measure(config: Config, rounds: int, seconds: float) -> dict[str, list[tuple[float, ...]]]:
    """Times of a step over those of one without a view, for each client and round."""
    teacher = config.teacher.load(torch.device("cpu"), torch.float32)
    run = Distillation(StepConfig.of(config), teacher, resolve_backend(config.backend, "cpu"))
    start = time.process_time()
    prepare(config)
    print(f"templates: {time.process_time() - start:.1f} s of the processor", flush=True)
    _steps(run, seconds, None)
    ratios: dict[str, list[tuple[float, ...]]] = {name: [] for name in ("no view, again", *CLIENTS)}
    before = _steps(run, seconds, None)
    for _ in range(rounds):
        for name in ratios:
            if name in CLIENTS:
                said: list[str] = []
                view = View(config)
                with view.during(Controls(), said.append), CLIENTS[name](_port(said[0])):
                    _steps(run, 2.0, view)  # until what is there at once was sent
                    took = _steps(run, seconds, view)
            else:
                took = _steps(run, seconds, None)
            after = _steps(run, seconds, None)
            beside = [(a + b) / 2 for a, b in zip(before, after, strict=True)]
            ratios[name].append(tuple(t / b for t, b in zip(took, beside, strict=True)))
            before = after
            print(name, *(f"{ratio:.3f}" for ratio in ratios[name][-1]), flush=True)
    return ratios


def main() -> None:
    """Measure, print a table, and write it where ``--write`` says so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"the table into {RESULT.name}")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keys = ["prompt=a red owl", "view=true", "view_port=0", "steps=5000"]
    ratios = measure(load_config("esd", keys), args.rounds, args.seconds)
    lines = ["| who looks | processor's time of a step | by the clock |", "|---|---|---|"]
    for name, values in ratios.items():
        cells = [
            f"{statistics.median(column):.3f} ({min(column):.3f} to {max(column):.3f})"
            for column in reversed(list(zip(*values, strict=True)))
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    table = "\n".join(lines)
    print(table)
    if args.write:
        RESULT.write_text(
            "# What the live view costs a run\n\n"
            "Time of a step, all threads of the run together, as a multiple of that without a view "
            f"in the blocks right before and after: {args.rounds} blocks each of {args.seconds:g} "
            "s, by turns, in one run of the embedded teacher on the CPU. Medians, and from least "
            "to most; the first row is the noise. Templates of the truth, which the view of a "
            "figurine needs once and the measures at the end of its run need anyway, were traced "
            "before.\n\n"
            f"`python -m benchmarks.live --rounds {args.rounds} --seconds {args.seconds:g} "
            f"--threads {args.threads} --write`, torch {torch.__version__}, "
            f"viser {viser.__version__}:\n\n{table}\n\n"
            "Chromium draws the splats with the processor here, on the run's cores; where the "
            "browser runs elsewhere or has a GPU, its row is that of the client that reads all.\n"
        )


if __name__ == "__main__":
    main()
