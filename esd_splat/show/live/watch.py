"""The live view of a run: the run hands over snapshots, and a thread shows them on a page."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from typing_extensions import override

from esd_splat.config import Config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.microbatch import Seen
from esd_splat.errors import ViewError
from esd_splat.run.controls import Controls
from esd_splat.run.observer import Observer
from esd_splat.scene.denormals import denormals_flushed
from esd_splat.scene.gaussians import Gaussians
from esd_splat.show.live.seen import entropies, explained, noise_levels, pictures, prepare

Page = Any
"""Stands for ``page.Page``, which cannot be imported here because its module needs viser."""
EVERY = 0.5
"""Minimum number of seconds between two snapshots shown."""
SHARE = 0.015
"""Fraction of this process's CPU time that pictures and entropies together may take. After each of
them, the thread waits long enough to keep to it. Everything else shown takes a millisecond or
two."""


@dataclass(frozen=True)
class Snapshot:
    """The state of a run between two steps. Apart from ``run``, it no longer changes."""

    config: Config
    run: Distillation
    """Gives access to the networks and the device. Its state changes as the run continues."""
    step: int
    """Number of steps done."""
    seconds: float
    """Time of the snapshot, by a clock that stops while the run is paused."""
    logged: dict[str, float]
    """The values that the step logged."""
    scene: Gaussians
    seen: Seen | None
    saved_at: int | None
    """Step of the latest checkpoint."""


class View(Observer):
    """Shows a run in a browser. It never makes the run wait; only ``controls`` can."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.controls = Controls()
        """Replaced by the run's own controls when the run begins."""
        self.wanted = False
        """Whether ``between_steps`` should hand over a snapshot. Set it to request one."""
        self.ended = False
        """Whether the last snapshot was handed over."""
        self.handed: queue.SimpleQueue[Snapshot | None] = queue.SimpleQueue()
        """The snapshots handed over, followed by ``None``."""

    @override
    @contextmanager
    def during(self, controls: Controls, say: Callable[[str], None]) -> Iterator[None]:
        """Serve the page for as long as the context lasts, and pass its address to ``say``.

        Raises:
            ViewError: If viser is not installed or the port is not available.
        """
        try:
            from esd_splat.show.live.page import Page
        except ImportError as error:
            raise ViewError(
                f'view: needs viser ({error}); python -m pip install "viser>=1.1,<2", or view=false'
            ) from error
        self.controls = controls
        page = Page(self.config, controls)
        there = f"127.0.0.1:{page.port}"
        say(f"to be seen at {page.url}; from elsewhere after ssh -L {page.port}:{there}")
        closing = threading.Event()
        thread = threading.Thread(
            target=watch, args=(self, page, closing), name="view", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            closing.set()
            self.handed.put(None)
            thread.join()
            page.close()

    @override
    def between_steps(
        self, run: Distillation, logged: dict[str, float], saved_at: int | None
    ) -> None:
        """Hand over a snapshot if one is wanted or if no step follows."""
        ends = run.done == self.config.steps or self.controls.stopped
        if not (self.wanted or (ends and not self.ended)):
            return
        self.wanted, self.ended = False, ends
        scene = run.scene.map(lambda value: value.detach().clone())
        seconds = time.monotonic() - self.controls.rested
        snapshot = Snapshot(self.config, run, run.done, seconds, logged, scene, run.seen, saved_at)
        self.handed.put(snapshot)


@denormals_flushed()
def watch(view: View, page: Page, closing: threading.Event) -> None:
    """Request snapshots while a browser shows the page, and show them, until one is ``None``.

    Args:
        view: The source of the snapshots.
        page: The page to show them on.
        closing: Set when the run has ended, so that the thread no longer waits.
    """
    prepare(view.config)
    before: Snapshot | None = None
    costly, costly_from = cycle([_show_pictures, _show_entropies]), 0.0
    while True:
        if page.watched:
            view.wanted = True
        try:
            now = view.handed.get(timeout=EVERY)
        except queue.Empty:
            continue
        if now is None:
            return
        page.show_scene(now.scene)
        rate = None
        moved = before is None or now.step > before.step
        if before is not None and moved:
            rate = (now.step - before.step) / (now.seconds - before.seconds)
        page.show_numbers(now.step, rate, now.logged, now.saved_at)
        if moved and time.process_time() >= costly_from:
            start = time.thread_time()
            try:
                next(costly)(page, now)
            # Most likely the device is out of memory. The page and the run continue without them.
            except Exception as error:
                page.show_pictures({}, f"Not shown of step {now.step}: {error}")
            costly_from = time.process_time() + (time.thread_time() - start) / SHARE
        before = now
        closing.wait(EVERY)


def _show_pictures(page: Page, now: Snapshot) -> None:
    if now.seen is not None:
        levels = ", ".join(f"{level:.2f}" for level in noise_levels(now.run, now.seen))
        note = f"Of two views of step {now.step}, noised to t/T = {levels}."
        page.show_pictures(pictures(now.run, now.seen), note)


def _show_entropies(page: Page, now: Snapshot) -> None:
    found = entropies(now.run, now.scene, now.config)
    page.show_entropies(now.step, found, explained(now.config, found))
