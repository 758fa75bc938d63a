"""A run's folder: who may write to it, and which files in it are a run's. Knows names only."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from esd_splat.config import Config
from esd_splat.errors import BusyError, OutputError
from esd_splat.files import output_error, write_text
from esd_splat.formats import EXPORTERS

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
MARK = b"# esd_splat "
"""What a run's ``config.yaml`` begins with."""
OURS = (CONFIG, *SCENES, *TURNTABLES, SHEET, METRICS, DIAGNOSTICS, SUMMARY, REPORT, CHECKPOINT)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep ``folder`` from other runs; it is made if need be, and goes again if it stays empty.

    Raises:
        BusyError: another run has it.
        OutputError: it cannot be made, or is a file.
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
        try:
            yield
        finally:
            if made:
                with suppress(OSError):
                    folder.rmdir()
    finally:
        os.close(descriptor)


def check_folder(config: Config) -> None:
    """Refuse a folder that holds what must not be overwritten.

    Raises:
        OutputError: a run that is neither to be resumed nor overwritten, or anything but a run
            without ``overwrite``.
    """
    folder = config.folder
    try:
        used, run = any(folder.iterdir()), _holds_run(folder)
    except OSError as error:
        raise output_error(folder, error) from error
    if not used or config.overwrite or (run and config.resume):
        return
    ways = "out= chooses another folder"
    if not run:
        raise OutputError(
            f"out: {folder} holds other files, and no run to go on with; {ways}, "
            "overwrite=true writes among them, and over those of the same names"
        )
    what, ways = "a finished run", f"overwrite=true replaces it, {ways}"
    if not (folder / SUMMARY).exists():
        what, ways = "an unfinished run", f"resume=true goes on with it, {ways}"
    raise OutputError(f"out: {folder} holds {what}; {ways}")


def check_writable(folder: Path) -> None:
    """Find out now, not after the first checkpoint.

    Raises:
        OutputError: nothing can be written to it.
    """
    write_text(folder / ".writable", "")
    (folder / ".writable").unlink()


def make_room(config: Config) -> None:
    """Of what is there the summary goes, as the run is unfinished from here on.

    With ``overwrite`` all that an older run has left goes, and nothing that is of no run.

    Raises:
        OutputError: that cannot be done.
    """
    folder = config.folder
    try:
        if config.overwrite and _holds_run(folder):
            for name in written(folder):
                (folder / name).unlink()
            shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
        (folder / SUMMARY).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error


def written(folder: Path) -> list[str]:
    """The files in ``folder`` that a run writes, by their paths in it."""
    return sorted(str(name) for name in OURS if (folder / name).is_file())


def _holds_run(folder: Path) -> bool:
    """Whether there is a checkpoint, or a ``config.yaml`` that a run wrote."""
    if (folder / CHECKPOINT).exists():
        return True
    if not (folder / CONFIG).is_file():
        return False
    with (folder / CONFIG).open("rb") as file:
        return file.read(len(MARK)) == MARK


def _lock(descriptor: int, folder: Path) -> None:
    """Until ``descriptor`` is closed, or this process ends however it does."""
    busy = f"out: another run is writing to {folder}; choose another folder with out="
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyError(busy) from error
    except OSError:
        return  # a network's file system may have no locks for folders
    # Another run may have removed it, empty, since it was opened.
    if not folder.exists() or not os.path.samestat(os.fstat(descriptor), folder.stat()):
        raise BusyError(busy)
