"""What a run leaves in its folder: rows of numbers, contact sheets, a turntable, a summary."""

import csv
import importlib.metadata
import io
import json
import platform
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from esd_splat import __version__
from esd_splat.config import Config
from esd_splat.distill.distillation import Distillation
from esd_splat.errors import OutputError
from esd_splat.files import write_text
from esd_splat.formats import EXPORTERS
from esd_splat.run.diagnostics import diagnose
from esd_splat.run.folder import (
    CONFIG,
    DIAGNOSTICS,
    METRICS,
    SHEET,
    SUMMARY,
    TENSORBOARD,
    make_room,
)
from esd_splat.run.measure import measure_scene
from esd_splat.scene.cameras import Cameras
from esd_splat.settings import to_yaml
from esd_splat.show.contact_sheet import contact_sheet
from esd_splat.show.images import write_png
from esd_splat.show.video import check_video, write_video

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

VIDEOS = {"mp4": (".mp4",), "gif": (".gif",), "both": (".mp4", ".gif")}
"""Suffixes of the turntables of each ``export.video``."""
PACKAGES = ("torch", "gsplat", "diffusers", "transformers", "peft", "lightning")


def check_exports(config: Config) -> None:
    """Refuse a run whose video could not be written in the end.

    Raises:
        OutputError: there is no ffmpeg, or it lacks the encoder.
    """
    for suffix in _videos(config):
        try:
            check_video(suffix)
        except OutputError as error:
            raise OutputError(f"export.video: {error}; export.frames=0 makes no video") from error


def _videos(config: Config) -> tuple[str, ...]:
    """Suffixes of the turntables that ``config`` asks for."""
    return VIDEOS[config.export.video] if config.export.frames else ()


def _write_config(config: Config) -> None:
    """``config.yaml``: the resolved config, with the versions it ran on as comments."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    comment = f"esd_splat {__version__}\n{versions}\n"
    comment += f"Python {platform.python_version()} on {platform.platform()}"
    write_text(config.folder / CONFIG, to_yaml(config, comment))


class Record:
    """The growing record of one run. Its state belongs into the checkpoint."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.rows: list[dict[str, float]] = []
        self.diagnoses: list[dict[str, float]] = []
        self.sheets: list[Tensor] = []
        self.seconds = 0.0
        self.saved_at: int | None = None
        """Steps done at the last checkpoint."""
        self._since = time.monotonic()
        self._board: SummaryWriter | None = None
        self.rested = 0.0
        """Seconds of this part that the run was paused."""
        self.begun = False
        """Whether this part of the run has written anything."""

    def begin(self) -> None:
        """Make room for what is to come, and write the config.

        Not before a step was made, or none is left: what cannot start must not cost anything.
        """
        if not self.begun:
            make_room(self.config)
            _write_config(self.config)
            self.begun = True

    def after_step(self, run: Distillation, logged: dict[str, float]) -> None:
        """Note a step's numbers, and draw the scene, when their time has come."""
        self.begin()
        log, last = self.config.log, run.done == self.config.steps
        if run.done % log.every == 0 or last:
            row = {"seconds": self._clock(), **logged}
            self.rows.append({"step": float(run.done), **row})
            if log.tensorboard:
                self._plot(run.done, row)
        if log.diagnose_every and (run.done % log.diagnose_every == 0 or last):
            self.diagnoses += diagnose(run)
        if log.sheet_every and run.done % log.sheet_every == 0:
            self.sheets.append(_bytes(self._sheet_row(run)))
            self._write_sheets(self.sheets)

    def write_rows(self) -> None:
        """``metrics.csv`` and, if there were diagnoses, ``diagnostics.csv``, whole."""
        if self._board is not None:
            self._board.flush()
        _write_csv(self.config.folder / METRICS, self.rows)
        if self.diagnoses:
            _write_csv(self.config.folder / DIAGNOSTICS, self.diagnoses)

    def write_scene(self, run: Distillation, measures: dict[str, Any] | None = None) -> list[Path]:
        """The scene in every format of ``export.formats``, with the prompt and some measures."""
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
        """Write the scene, the pictures and, last of all, the summary."""
        folder, export = self.config.folder, self.config.export
        self.write_rows()
        seconds = self._clock()
        measures = self._measures(run)
        self.write_scene(run, measures)
        sheets = self.sheets
        if not sheets or self.config.steps % self.config.log.sheet_every:
            sheets = [*sheets, _bytes(self._sheet_row(run))]
        self._write_sheets(sheets)
        if suffixes := _videos(self.config):
            cameras = self._cameras(export.frames)
            for suffix in suffixes:
                # Drawn as they are written: all at once they may be more than there is memory.
                each = torch.arange(len(cameras)).split(1)
                frames = (self._from(run, cameras[one])[0] for one in each)
                write_video(frames, folder / f"turntable{suffix}", fps=export.fps)
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
        }
        write_text(folder / SUMMARY, json.dumps(summary, indent=1) + "\n")
        return summary

    def close(self) -> None:
        """No row comes any more."""
        if self._board is not None:
            self._board.close()

    def state(self) -> dict[str, Any]:
        """What has been noted so far."""
        return {
            "rows": self.rows,
            "diagnoses": self.diagnoses,
            "sheets": self.sheets,
            "seconds": self._clock(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` returned."""
        self.rows, self.sheets = list(state["rows"]), list(state["sheets"])
        self.diagnoses = list(state.get("diagnoses", ()))  # older files have none
        self.seconds, self._since = state["seconds"], time.monotonic()

    def _plot(self, step: int, row: dict[str, float]) -> None:
        """The row for TensorBoard."""
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter  # a second, for a few

            # What a cut run plotted after its last checkpoint comes anew.
            self._board = SummaryWriter(str(self.config.folder / TENSORBOARD), purge_step=step)
        for name, value in row.items():
            self._board.add_scalar(name, value, step)

    def _write_sheets(self, sheets: list[Tensor]) -> None:
        """Azimuths across, training time down."""
        views, last = self.config.export.sheet_views, self.config.steps
        every = self.config.log.sheet_every or last
        across = [f"{360 * view / views:.4g}°" for view in range(views)]
        down = [f"step {min(every * row, last)}" for row in range(1, len(sheets) + 1)]
        sheet = contact_sheet(torch.cat(sheets).float() / 255, views, across, down)
        write_png(sheet, self.config.folder / SHEET)

    def _measures(self, run: Distillation) -> dict[str, Any] | None:
        """Of figurines only: what another teacher makes of the prompt has no known truth."""
        config = self.config
        if not config.teacher.vocabulary:
            return None
        return measure_scene(run.views, config.prompt, config.measure, config.cameras)

    def _clock(self) -> float:
        """Seconds this run has taken, over all its parts, but for pauses."""
        return self.seconds + time.monotonic() - self._since - self.rested

    def _cameras(self, count: int) -> Cameras:
        export = self.config.export
        return self.config.cameras.turntable(count, export.elevation, export.size)

    def _sheet_row(self, run: Distillation) -> Tensor:
        return self._from(run, self._cameras(self.config.export.sheet_views))

    @staticmethod
    def _from(run: Distillation, cameras: Cameras) -> Tensor:
        return run.views(cameras, torch.ones(len(cameras), 3))


def _write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    """One line for each of ``rows``; where it has no number for a column, nothing."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in rows)
    write_text(path, text.getvalue())


def _bytes(images: Tensor) -> Tensor:
    return (images * 255).round().byte()


def _peak_memory() -> int:
    """Bytes: of the GPU's memory where there is one, else of this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
