"""A run's folder: who may write to it, and which files in it are a run's. Knows names only."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from esd_splat.config import Config
from esd_splat.errors import OutputError
from esd_splat.export import EXPORTERS
from esd_splat.files import output_error, write_text

SUMMARY = "summary.json"
CONFIG = "config.yaml"
SHEET = "contact_sheet.png"
METRICS = "metrics.csv"
DIAGNOSTICS = "diagnostics.csv"
REPORT = "report.html"
TENSORBOARD = "tensorboard"
TURNTABLES = ("turntable.mp4", "turntable.gif")
CHECKPOINT = Path("checkpoints") / "last.ckpt"
SCENES = tuple(f"scene.{name}" for name in EXPORTERS)
OURS = (CONFIG, *SCENES, *TURNTABLES, SHEET, METRICS, DIAGNOSTICS, SUMMARY, REPORT, CHECKPOINT)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep ``folder`` from other runs; it is made if need be, and goes again if it stays empty.

    Raises:
        OutputError: another run has it, it cannot be made or is a file.
    """
    try:
        made = not folder.exists()
        if not made and not folder.is_dir():
            raise OutputError(f"out: {folder} is a file; choose another folder with out=")
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)
        if made:
            with suppress(OSError):
                folder.rmdir()


def check_folder(config: Config) -> None:
    """Refuse a folder that holds what must not be overwritten; of the run's own, leaves nothing.

    Raises:
        OutputError: that is so, or it cannot be written to. Found out here, not after the first
            checkpoint.
    """
    folder = config.folder
    try:
        if any(folder.iterdir()) and not config.overwrite:
            _refuse_used(folder, config.resume)
        write_text(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise output_error(folder, error) from error


def clear(folder: Path) -> None:
    """Remove what a run has left in ``folder``, and nothing else.

    Raises:
        OutputError: that cannot be done.
    """
    try:
        for name in written(folder):
            (folder / name).unlink()
        shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
    except OSError as error:
        raise output_error(folder, error) from error


def written(folder: Path) -> list[str]:
    """The files in ``folder`` that a run writes, by their paths in it."""
    return sorted(str(name) for name in OURS if (folder / name).is_file())


def _refuse_used(folder: Path, resume: bool) -> None:
    """Go on with a run only, and with that only if asked to."""
    run = any((folder / name).exists() for name in (CONFIG, CHECKPOINT))
    finished = run and (folder / SUMMARY).exists()
    if run and resume:
        return
    ways = "out= chooses another folder"
    if not run:
        raise OutputError(
            f"out: {folder} holds other files, and no run to go on with; {ways}, "
            "overwrite=true writes among them"
        )
    what, ways = "a finished run", f"overwrite=true replaces it, {ways}"
    if not finished:
        what, ways = "an unfinished run", f"resume=true goes on with it, {ways}"
    raise OutputError(f"out: {folder} holds {what}; {ways}")


def _lock(descriptor: int, folder: Path) -> None:
    """Until ``descriptor`` is closed, or this process ends however it does."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"out: another run is writing to {folder}; choose another folder with out="
        ) from error
    except OSError:
        pass  # a network's file system may have no locks for folders
