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
from esd_splat.run.folder import SHEET
from esd_splat.run.observer import Observer
from esd_splat.scene.cameras import Cameras
from esd_splat.show.contact_sheet import contact_sheet
from esd_splat.show.images import write_png
from esd_splat.show.report import write_report
from esd_splat.show.video import check_video, write_video

VIDEOS = {"mp4": (".mp4",), "gif": (".gif",), "both": (".mp4", ".gif")}
"""Suffixes of the turntables of each ``export.video``."""


class Pictures(Observer):
    """Draws the contact sheet, while the run goes too if asked to, and the turntable at its end."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.suffixes = VIDEOS[config.export.video] if config.export.frames else ()
        """Of the turntables that are asked for."""
        self.sheets: list[Tensor] = []
        """Rows of the contact sheet, in bytes."""

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
        self.sheets = list(state.get("sheets", ()))

    @override
    def after_step(self, run: Distillation) -> None:
        every = self.config.log.sheet_every
        if every and run.done % every == 0:
            self.sheets.append(self._row(run))
            self._write_sheet(self.sheets)

    @override
    def state(self) -> dict[str, Any]:
        return {"sheets": self.sheets}

    @override
    def before_summary(self, run: Distillation) -> None:
        sheets = self.sheets
        if not sheets or self.config.steps % self.config.log.sheet_every:
            sheets = [*sheets, self._row(run)]
        self._write_sheet(sheets)
        export = self.config.export
        for suffix in self.suffixes:
            cameras = self._cameras(export.frames)
            # Drawn as they are written: all at once they may be more than there is memory.
            each = torch.arange(len(cameras)).split(1)
            frames = (_drawn(run, cameras[one])[0] for one in each)
            write_video(frames, self.config.folder / f"turntable{suffix}", fps=export.fps)

    def _row(self, run: Distillation) -> Tensor:
        images = _drawn(run, self._cameras(self.config.export.sheet_views))
        return (images * 255).round().byte()

    def _write_sheet(self, sheets: list[Tensor]) -> None:
        """Azimuths across, training time down."""
        views, last = self.config.export.sheet_views, self.config.steps
        every = self.config.log.sheet_every or last
        across = [f"{360 * view / views:.4g}°" for view in range(views)]
        down = [f"step {min(every * row, last)}" for row in range(1, len(sheets) + 1)]
        sheet = contact_sheet(torch.cat(sheets).float() / 255, views, across, down)
        write_png(sheet, self.config.folder / SHEET)

    def _cameras(self, count: int) -> Cameras:
        export = self.config.export
        return self.config.cameras.turntable(count, export.elevation, export.size)


class Report(Observer):
    """Writes the page that shows all that a run has left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @override
    def after_summary(self) -> None:
        try:
            write_report(self.folder)
        except EsdSplatError as error:
            rest = f"all but the report is there, and python -m esd_splat.report {self.folder}"
            raise OutputError(f"{error}; {rest} writes it") from error


def _drawn(run: Distillation, cameras: Cameras) -> Tensor:
    """The scene over white."""
    return run.views(cameras, torch.ones(len(cameras), 3))
