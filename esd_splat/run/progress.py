"""How far a run has come: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

LINE_EVERY_S = 10.0
"""Seconds between the lines of a log; a line's speed is the mean since the line before."""
BAR = "step {n_fmt}/{total_fmt} |{bar:8}| {rate_noinv_fmt}, {remaining} left{postfix}"
"""A short bar, so that 80 columns have room for the terms; what does not fit is cut off."""

Show = Callable[[int, dict[str, float]], None]
"""Told the steps done and what the last one logged."""


@contextmanager
def progress(done: int, steps: int, *, quiet: bool) -> Iterator[Show]:
    """Show on standard error how far a run is, each time that the yielded function is called.

    Args:
        done: steps that were done before, at no cost now.
        steps: of the whole run.
        quiet: show nothing.
    """
    if quiet:
        yield lambda done, logged: None
    elif sys.stderr.isatty():
        with tqdm(
            initial=done, total=steps, unit=" steps", bar_format=BAR, dynamic_ncols=True
        ) as bar:

            def show(done: int, logged: dict[str, float]) -> None:
                bar.set_postfix_str(_terms(logged), refresh=False)
                bar.update(done - bar.n)

            yield show
    else:
        # A log file would keep every state of the bar, and the characters that move the cursor.
        yield _Lines(done, steps)


class _Lines:
    def __init__(self, done: int, steps: int) -> None:
        self.done, self.steps, self.at = done, steps, time.monotonic()

    def __call__(self, done: int, logged: dict[str, float]) -> None:
        now = time.monotonic()
        if now - self.at < LINE_EVERY_S and done < self.steps:
            return
        rate = (done - self.done) / (now - self.at)
        left = tqdm.format_interval((self.steps - done) / rate)
        line = f"step {done}/{self.steps}, {rate:.2f} steps/s, {left} left, {_terms(logged)}"
        print(line, file=sys.stderr, flush=True)
        self.done, self.at = done, now


def _terms(logged: dict[str, float]) -> str:
    counted = f"{logged['gaussians']:.0f} Gaussians"
    return ", ".join([counted, *(f"{k} {v:.3g}" for k, v in logged.items() if k != "gaussians")])
