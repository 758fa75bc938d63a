"""What a run leaves beside its scene: contact sheets, a turntable, a report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from esd_splat.config import Config
from esd_splat.distill.distillation import Distillation
from esd_splat.errors import EsdSplatError, OutputError
from esd_splat.run.folder import REPORT, SHEET
from esd_splat.run.observer import Observer
from esd_splat.scene.cameras import Cameras
from esd_splat.show.contact_sheet import Row, contact_sheet
from esd_splat.show.images import write_png
from esd_splat.show.report import write_report
from esd_splat.show.video import check_video, write_video

LEAST_PX = 512
"""Width and height of the finished scene's pictures where ``export.size`` is null, or those of the
run's own views if they are larger: a small teacher's views are stamps to a person."""
VIDEOS = {"mp4": (".mp4",), "gif": (".gif",), "both": (".mp4", ".gif")}
"""Suffixes of the turntables of each ``export.video``."""


class Pictures(Observer):
    """Draws the contact sheet, while the run goes too if asked to, and the turntable at its end."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.suffixes = VIDEOS[config.export.video] if config.export.frames else ()
        """Of the turntables that are asked for."""
        self.size = config.export.size or max(LEAST_PX, config.cameras.size)
        """Width and height of the finished scene's pictures."""
        self.rows: list[Tensor] = []
        """Rows of the contact sheet, one for every ``log.sheet_every`` steps. As checkpoints keep
        them, they are bytes, and only as large as the views of the run."""

    @override
    def check(self) -> None:
        for suffix in self.suffixes:
            try:
                check_video(suffix)
            except OutputError as error:
                message = f"export.video: {error}; export.frames=0 makes no video"
                raise OutputError(message) from error

    @override
    def restore(self, state: Mapping[str, Any]) -> None:
        self.rows = list(state.get("sheets", ()))

    @override
    def after_step(self, run: Distillation) -> None:
        every = self.config.log.sheet_every
        if every and run.done % every == 0:
            self.rows.append((self._row(run, self.config.cameras.size) * 255).round().byte())
            self._write_sheet(self._labelled(run.done))

    @override
    def state(self) -> dict[str, Any]:
        return {"sheets": self.rows}

    @override
    def leaves(self) -> list[str]:
        return [SHEET, *(f"turntable{suffix}" for suffix in self.suffixes)]

    @override
    def before_summary(self, run: Distillation) -> None:
        earlier = {step: row for step, row in self._labelled(run.done).items() if step < run.done}
        self._write_sheet(earlier | {run.done: self._row(run, self.size)})
        export = self.config.export
        for suffix in self.suffixes:
            cameras = self._cameras(export.frames, self.size)
            # Drawn as they are written: all at once they may be more than there is memory.
            each = torch.arange(len(cameras)).split(1)
            frames = (_drawn(run, cameras[one])[0] for one in each)
            write_video(frames, self.config.folder / f"turntable{suffix}", fps=export.fps)

    def _labelled(self, done: int) -> dict[int, Row]:
        """The rows so far, by the step that each was drawn at.

        Counted back from the latest row, as a run that began without observers lacks the first.
        """
        every = self.config.log.sheet_every
        latest = done // every if every else 0
        first = latest - len(self.rows) + 1
        return {every * (first + i): row.float() / 255 for i, row in enumerate(self.rows)}

    def _row(self, run: Distillation, size: int) -> Row:
        return _drawn(run, self._cameras(self.config.export.sheet_views, size))

    def _write_sheet(self, rows: Mapping[int, Row]) -> None:
        """Azimuths across, training time down."""
        views = self.config.export.sheet_views
        across = [f"{360 * view / views:.4g}°" for view in range(views)]
        sheet = contact_sheet([*rows.values()], across, [f"step {step}" for step in rows])
        write_png(sheet, self.config.folder / SHEET)

    def _cameras(self, count: int, size: int) -> Cameras:
        return self.config.cameras.turntable(count, self.config.export.elevation, size)


class Report(Observer):
    """Writes the page that shows all that a run has left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @override
    def leaves(self) -> list[str]:
        return [REPORT]

    @override
    def after_summary(self) -> None:
        try:
            write_report(self.folder)
        except EsdSplatError as error:
            rest = f"all but the report is there, and python -m esd_splat.report {self.folder}"
            raise OutputError(f"{error}; {rest} writes it") from error


def _drawn(run: Distillation, cameras: Cameras) -> Row:
    """The scene over white."""
    return run.views(cameras, torch.ones(len(cameras), 3))
