"""What Ctrl-C and SIGTERM do to a run whose steps have begun."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts(stop: Callable[[], None]) -> Iterator[None]:
    """Make the first Ctrl-C end the run after the current step, and a second one at once.

    SIGTERM ends it after the current step too, however often it comes: schedulers repeat it.
    """

    def handle(number: int, frame: Any) -> None:
        stop()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
    except ValueError:  # not the main thread, so the caller handles signals
        yield
        return
    try:
        yield
    except SystemExit as error:
        # Lightning turns an interrupt into a SystemExit.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
