"""What Ctrl-C and the buttons of the live view ask of a run. Knows flags; not who sets or obeys."""

import time
from collections.abc import Callable
from dataclasses import dataclass

POLL = 0.05
"""Seconds between looks at the flags while a run rests."""


@dataclass
class Controls:
    """Wishes that may come at any time, from any thread or signal handler; the run looks them up.

    Plain flags: a signal handler that waits for a lock which its own thread holds waits forever.
    """

    paused: bool = False
    """Whether the run should rest between two steps."""
    saving: bool = False
    """Whether a checkpoint and a scene are wanted; whoever has written them takes the wish back."""
    stopped: bool = False
    """Whether this step should be the last; a paused run stops too."""
    rested: float = 0.0
    """Seconds spent paused so far."""

    def pause(self) -> None:
        """Rest after the current step."""
        self.paused = True

    def resume(self) -> None:
        """Go on."""
        self.paused = False

    def save(self) -> None:
        """Write a checkpoint and a scene after the current step, also while paused."""
        self.saving = True

    def stop(self) -> None:
        """End the run after the current step, as Ctrl-C does."""
        self.stopped = True

    def rest(self, attend: Callable[[], None]) -> None:
        """Stand between two steps: for no time, or for as long as the run is paused.

        Args:
            attend: done once in any case, and again and again while paused.
        """
        attend()
        last = time.monotonic()
        while self.paused and not self.stopped:
            time.sleep(POLL)
            now = time.monotonic()
            self.rested, last = self.rested + now - last, now
            attend()
