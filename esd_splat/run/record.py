"""What every run writes to its folder: the scene, tables of numbers and a summary."""

import csv
import importlib.metadata
import io
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from esd_splat import __version__
from esd_splat.config import Config
from esd_splat.distill.distillation import Distillation
from esd_splat.files import write_text
from esd_splat.formats import EXPORTERS
from esd_splat.run.diagnostics import diagnose
from esd_splat.run.folder import (
    CONFIG,
    DIAGNOSTICS,
    METRICS,
    SUMMARY,
    TENSORBOARD,
    make_room,
)
from esd_splat.run.measure import judged, measure_scene
from esd_splat.run.observer import Observer
from esd_splat.settings import to_yaml

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

PACKAGES = ("torch", "gsplat", "diffusers", "transformers", "peft", "lightning")


def _write_config(config: Config) -> None:
    """Write ``config.yaml``: the resolved config, with the installed versions as comments."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    comment = f"esd_splat {__version__}\n{versions}\n"
    comment += f"Python {platform.python_version()} on {platform.platform()}"
    write_text(config.folder / CONFIG, to_yaml(config, comment))


class Record:
    """The record of one run and its observers. Checkpoints hold its state."""

    def __init__(
        self,
        config: Config,
        observers: Sequence[Observer] = (),
        check_folder: Callable[[], None] = lambda: None,
    ) -> None:
        self.config, self.observers = config, observers
        self._check_folder = check_folder
        self.rows: list[dict[str, float]] = []
        self.diagnoses: list[dict[str, float]] = []
        self.seconds = 0.0
        self.saved_at: int | None = None
        """The number of steps that were done at the last checkpoint."""
        self._since = time.monotonic()
        self._board: SummaryWriter | None = None
        self.rested = 0.0
        """For how many seconds the run was paused since it was started or resumed."""
        self.begun = False
        """Whether anything was written since the run was started or resumed."""

    def begin(self) -> None:
        """Remove the files that this run replaces, write the config, and check the folder.

        This is called after the first step or, if no step is left, at the end, because a run that
        cannot start must not change the folder.
        """
        if not self.begun:
            make_room(self.config)
            _write_config(self.config)
            self.begun = True
        self._check_folder()

    def after_step(self, run: Distillation, logged: dict[str, float]) -> None:
        """Record the values of a step if they are due, and pass the step to the observers."""
        self.begin()
        log, last = self.config.log, run.done == self.config.steps
        if run.done % log.every == 0 or last:
            row = {"seconds": self._clock(), **logged}
            self.rows.append({"step": float(run.done), **row})
            if log.tensorboard:
                self._plot(run.done, row)
        if log.diagnose_every and (run.done % log.diagnose_every == 0 or last):
            self.diagnoses += diagnose(run, self.config)
        for observer in self.observers:
            observer.after_step(run)

    def write_rows(self) -> None:
        """Write all of ``metrics.csv`` and, if there are diagnoses, of ``diagnostics.csv``."""
        if self._board is not None:
            self._board.flush()
        _write_csv(self.config.folder / METRICS, self.rows)
        if self.diagnoses:
            _write_csv(self.config.folder / DIAGNOSTICS, self.diagnoses)

    def write_scene(self, run: Distillation, measures: dict[str, Any] | None = None) -> list[Path]:
        """Write the scene in all ``export.formats``, with the prompt and measures as a comment."""
        comment = " ".join(self.config.prompt.split())
        if measures:
            faces = "1 face" if measures["faces"] == 1 else f"{measures['faces']} faces"
            comment += f"\nMI {measures['MI']:.2f} nats\n{faces}"
        paths = []
        for name in self.config.export.formats:
            path = self.config.folder / f"scene.{name}"
            EXPORTERS[name]().write(run.scene, path, comment)
            paths.append(path)
        return paths

    def finish(self, run: Distillation) -> dict[str, Any]:
        """Write the tables, the scene, the files of the observers and, last, the summary."""
        self.write_rows()
        seconds = self._clock()
        measures = self._measures(run)
        judges = judged(run.views, run.teacher, self.config) if measures is None else None
        self.write_scene(run, measures)
        for observer in self.observers:
            observer.before_summary(run)
        summary: dict[str, Any] = {
            "prompt": self.config.prompt,
            "seed": self.config.seed,
            "steps": run.done,
            "seconds": round(seconds, 2),
            "steps_per_second": round(run.done / seconds, 3),
            "peak_memory_mb": round(_peak_memory() / 2**20),
            "gaussians": len(run.scene),
            "backend": run.backend,
            "device": str(run.device),
            "measures": measures,
            "judged": judges,
        }
        self._check_folder()
        write_text(self.config.folder / SUMMARY, json.dumps(summary, indent=1) + "\n")
        return summary

    def close(self) -> None:
        """Close the TensorBoard log, as no more rows follow."""
        if self._board is not None:
            self._board.close()

    def state(self) -> dict[str, Any]:
        """Everything recorded so far, including the state of the observers."""
        kept = {"rows": self.rows, "diagnoses": self.diagnoses, "seconds": self._clock()}
        for observer in self.observers:
            kept |= observer.state()
        return kept

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        self.rows = list(state["rows"])
        self.diagnoses = list(state.get("diagnoses", ()))  # missing in older checkpoints
        self.seconds, self._since = state["seconds"], time.monotonic()
        for observer in self.observers:
            observer.restore(state)

    def _plot(self, step: int, row: dict[str, float]) -> None:
        """Write a row to TensorBoard."""
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter  # its import takes a second

            # A resumed run repeats the steps that were plotted after its last checkpoint.
            self._board = SummaryWriter(str(self.config.folder / TENSORBOARD), purge_step=step)
        for name, value in row.items():
            self._board.add_scalar(name, value, step)

    def _measures(self, run: Distillation) -> dict[str, Any] | None:
        """Measure the scene of a figurine. For other teachers the true object is not known."""
        config = self.config
        if not config.teacher.vocabulary:
            return None
        return measure_scene(run.views, config.prompt, config.measure, config.cameras)

    def _clock(self) -> float:
        """The seconds that this run has taken, including earlier parts but not pauses."""
        return self.seconds + time.monotonic() - self._since - self.rested


def _write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    """Write one line for each of ``rows``. A cell is empty if the row has no such value."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in rows)
    write_text(path, text.getvalue())


def _peak_memory() -> int:
    """Return the peak memory in bytes: of the GPU if it was used, otherwise of this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
