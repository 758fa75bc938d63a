"""The run's side of the live view: what is asked of a run, and what it hands over when asked."""

import queue
import time
from dataclasses import dataclass

from esd_splat.config import Config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.microbatch import Seen
from esd_splat.run.controls import Controls
from esd_splat.scene.gaussians import Gaussians


@dataclass(frozen=True)
class Snapshot:
    """A run between two steps, of which nothing changes any more."""

    run: Distillation
    """For its config, networks and device; its state goes on."""
    step: int
    """Steps done."""
    seconds: float
    """When, by a clock that stands still while the run is paused."""
    logged: dict[str, float]
    """What the step logged."""
    scene: Gaussians
    seen: Seen | None
    saved_at: int | None
    """Step of the latest checkpoint."""


class View:
    """A run as seen from outside. It never makes the run wait; only ``controls`` can."""

    def __init__(self, config: Config) -> None:
        self.config, self.controls = config, Controls()
        self.wanted = False
        """Whether the next ``show`` should hand over a snapshot; whoever wants one says so."""
        self.ended = False
        """Whether the last snapshot was handed over."""
        self.handed: queue.SimpleQueue[Snapshot | None] = queue.SimpleQueue()
        """What ``show`` handed over; ``None`` after the last."""

    def show(self, run: Distillation, logged: dict[str, float], saved_at: int | None) -> None:
        """Hand over how things stand, if that is wanted, or if there is a page and no next step."""
        ends = run.done == self.config.steps or self.controls.stopped
        if not (self.wanted or (ends and self.config.view and not self.ended)):
            return
        self.wanted, self.ended = False, ends
        scene = run.scene.map(lambda value: value.detach().clone())
        seconds = time.monotonic() - self.controls.rested
        self.handed.put(Snapshot(run, run.done, seconds, logged, scene, run.seen, saved_at))
