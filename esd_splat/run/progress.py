"""The progress of a run: a bar on a terminal, or a line every ten seconds in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

LINE_EVERY_S = 10.0
"""Seconds between two lines of a log. The speed in a line is the mean since the previous line."""
BAR = "step {n_fmt}/{total_fmt} |{bar:8}| {rate_noinv_fmt}, {remaining} left{postfix}"
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
    elif sys.stderr.isatty():
        with tqdm(
            initial=done, total=steps, unit=" steps", bar_format=BAR, dynamic_ncols=True
        ) as bar:

            def show(done: int, logged: dict[str, float]) -> None:
                bar.set_postfix_str(_terms(logged), refresh=False)
                bar.update(done - bar.n)

            yield show
    else:
        # In a log file, every state of the bar and its control characters would remain.
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
