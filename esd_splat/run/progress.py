"""The progress of a run: a bar on a terminal, or a line every ten seconds in a log."""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm
from typing_extensions import override

from esd_splat.command import say

LINE_EVERY_S = 10.0
"""Seconds between two lines of a log. The speed in a line is the mean since the previous line."""
STILL_EVERY_S = 60.0
"""Seconds without a finished step after which the run shows that it goes on, again and again."""
BAR = "step {n_fmt}/{total_fmt} |{bar:8}| {speed}, {remaining} left{postfix}"
"""The bar is short so that the logged terms fit into 80 columns. The rest of them is cut off."""

Show = Callable[[int, dict[str, float]], None]
"""Called with the number of steps done and the values that the last step logged."""


@contextmanager
def progress(done: int, steps: int, *, quiet: bool) -> Iterator[Show]:
    """Yield a function that shows the progress of a run on standard error.

    Args:
        done: the number of steps that earlier parts of the run have done.
        steps: the number of steps of the whole run.
        quiet: show nothing.
    """
    if quiet:
        yield lambda done, logged: None
    elif _on_terminal():
        with _Bar(initial=done, total=steps, bar_format=BAR, dynamic_ncols=True) as bar:

            def show(done: int, logged: dict[str, float]) -> None:
                bar.set_postfix_str(_terms(logged), refresh=False)
                bar.update(done - bar.n)

            with _watched(show, done, lambda waited, done: bar.set_postfix_str(waited)) as watched:
                yield watched
    else:
        # In a log file, every state of the bar and its control characters would remain.
        def still(waited: str, done: int) -> None:
            say(f"step {done}/{steps}, {waited}", to_stderr=True)

        with _watched(_Lines(done, steps), done, still) as watched:
            yield watched


def speed(steps_per_second: float | None) -> str:
    """Return a speed as steps a second or, below one step a second, as seconds a step."""
    if not steps_per_second:
        return "? steps/s"
    if steps_per_second < 1:
        return f"{1 / steps_per_second:.1f} s/step"
    return f"{steps_per_second:.2f} steps/s"


def _on_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


class _Bar(tqdm):
    @property
    @override
    def format_dict(self) -> Any:
        known: dict[str, Any] = dict(super().format_dict)
        done, elapsed = known["n"] - known["initial"], known["elapsed"]
        return known | {"speed": speed(known["rate"] or (done / elapsed if elapsed else None))}


class _Lines:
    def __init__(self, done: int, steps: int) -> None:
        self.done, self.steps, self.at = done, steps, time.monotonic()

    def __call__(self, done: int, logged: dict[str, float]) -> None:
        now = time.monotonic()
        if now - self.at < LINE_EVERY_S and done < self.steps:
            return
        rate = (done - self.done) / (now - self.at)
        left = tqdm.format_interval((self.steps - done) / rate)
        line = f"step {done}/{self.steps}, {speed(rate)}, {left} left, {_terms(logged)}"
        say(line, to_stderr=True)
        self.done, self.at = done, now


@contextmanager
def _watched(show: Show, done: int, still: Callable[[str, int], None]) -> Iterator[Show]:
    """Yield ``show``, and call ``still`` in another thread while a step takes long."""
    over, latest = threading.Event(), [(done, time.monotonic())]

    def noted(done: int, logged: dict[str, float]) -> None:
        latest[0] = done, time.monotonic()
        show(done, logged)

    def watch() -> None:
        waited = 0.0
        while not over.wait((math.floor(waited / STILL_EVERY_S) + 1) * STILL_EVERY_S - waited):
            done, since = latest[0]
            waited = time.monotonic() - since
            if waited >= STILL_EVERY_S:
                still(f"its next step has taken {waited:.0f} s so far", done)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield noted
    finally:
        over.set()
        thread.join()


def _terms(logged: dict[str, float]) -> str:
    counted = f"{logged['gaussians']:.0f} Gaussians"
    return ", ".join([counted, *(f"{k} {v:.3g}" for k, v in logged.items() if k != "gaussians")])
