"""The page's side of the live view: a thread that asks for snapshots and shows them."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

from esd_splat.config import Config
from esd_splat.errors import ViewError
from esd_splat.scene.denormals import denormals_flushed
from esd_splat.show.live.seen import entropies, explained, noise_levels, pictures, prepare
from esd_splat.show.live.view import Snapshot, View

Page = Any
"""The type of that name, whose module needs viser."""
EVERY = 0.5
"""Seconds from one snapshot shown to the next, at least."""
SHARE = 0.015
"""Of the processor's time that this process gets, which pictures and entropies together may take:
after each they wait for as long as that asks. All else that is shown takes a millisecond or two."""


@contextmanager
def open_view(config: Config, say: Callable[[str], None]) -> Iterator[View]:
    """The view of a run, with a page while the context lasts if ``config.view`` asks for one.

    Args:
        config: of the run.
        say: is told, in one line, where the page is.

    Raises:
        ViewError: viser is not installed, or the port cannot be had.
    """
    view = View(config)
    if not config.view:
        yield view
        return
    try:
        from esd_splat.show.live.page import Page
    except ImportError as error:
        raise ViewError(
            f'view: needs viser ({error}); python -m pip install "viser>=1.1,<2", or view=false'
        ) from error
    page = Page(config, view.controls)
    say(f"to be seen at {page.url}; from elsewhere after ssh -L {page.port}:127.0.0.1:{page.port}")
    closing = threading.Event()
    thread = threading.Thread(target=watch, args=(view, page, closing), name="view", daemon=True)
    thread.start()
    try:
        yield view
    finally:
        closing.set()
        view.handed.put(None)
        thread.join()
        page.close()


@denormals_flushed()
def watch(view: View, page: Page, closing: threading.Event) -> None:
    """Ask for snapshots while somebody looks, and show them, until one is ``None``.

    Args:
        view: where snapshots come from.
        page: where they go.
        closing: set when there is no time to lose any more.
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
            # Most likely the device is full: the page goes on without, and so does the run.
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
    found = entropies(now.run, now.scene)
    page.show_entropies(now.step, found, explained(now.run.config, found))
