"""A run's folder: who may write to it, and which files in it are a run's. Knows names only."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

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
LOCK = ".lock"
"""Held by the run that writes to the folder, and removed when that run ends."""
MARK = b"# esd_splat "
"""What a run's ``config.yaml`` begins with."""
OURS = (CONFIG, *SCENES, *TURNTABLES, SHEET, METRICS, DIAGNOSTICS, SUMMARY, REPORT, CHECKPOINT)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep ``folder`` from other runs; it is made if need be, and goes again if it stays empty.

    The operating system drops the lock of a process that is killed. Where nothing can be locked,
    the folder is not kept: in one that can only be read, which ``check_writable`` refuses, and on
    some network file systems.

    Raises:
        BusyError: another run has it.
        OutputError: it cannot be made, or is a file.
    """
    try:
        made = not folder.exists()
        if not made and not folder.is_dir():
            raise OutputError(f"out: {folder} is a file; choose another folder with out=")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    # The soft lock that filelock can fall back to is a file that outlives a killed process.
    lock = FileLock(folder / LOCK, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except (Timeout, FileNotFoundError) as error:  # held, or the folder was empty and is gone again
        raise BusyError(
            f"out: another run is writing to {folder}; choose another folder with out="
        ) from error
    except OSError:
        pass
    try:
        yield
    finally:
        # While it is still held: once released, it may already be the lock of another run. Windows
        # removes no open file; there, filelock itself removes it after the release.
        with suppress(OSError):
            (folder / LOCK).unlink()
        lock.release()
        if made:
            with suppress(OSError):
                folder.rmdir()


def check_folder(config: Config) -> None:
    """Refuse a folder that holds what must not be overwritten.

    Raises:
        OutputError: a run that is neither to be resumed nor overwritten, or anything but a run
            without ``overwrite``.
    """
    folder = config.folder
    try:
        used, run = any(path.name != LOCK for path in folder.iterdir()), _holds_run(folder)
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
