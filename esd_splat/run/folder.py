"""The folder of a run: the names of its files, its lock and the checks before writing to it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from esd_splat.config import Config
from esd_splat.errors import BusyError, OutputError
from esd_splat.files import left_behind, output_error
from esd_splat.formats import EXPORTERS

SUMMARY = "summary.json"
CONFIG = "config.yaml"
SHEET = "contact_sheet.png"
METRICS = "metrics.csv"
DIAGNOSTICS = "diagnostics.csv"
REPORT = "report.html"
EVALUATION = "evaluation.json"
TENSORBOARD = "tensorboard"
TURNTABLES = ("turntable.mp4", "turntable.gif")
CHECKPOINT = Path("checkpoints") / "last.ckpt"
SCENES = tuple(f"scene.{name}" for name in EXPORTERS)
LOCK = ".lock"
"""The lock of the run that writes to the folder. It is removed when that run ends."""
PROBE = ".writable"
"""A file that is written and removed at once, to see whether the folder can be written to."""
MARK = b"# esd_splat "
"""The first bytes of the ``config.yaml`` of every run."""
OURS = (
    *(CONFIG, *SCENES, *TURNTABLES, SHEET, METRICS, DIAGNOSTICS),
    *(SUMMARY, EVALUATION, REPORT, CHECKPOINT),
)


@contextmanager
def claimed(folder: Path) -> Iterator[Callable[[], None]]:
    """Lock ``folder`` against other runs, and yield a function that checks that it is still ours.

    The function raises an ``OutputError`` if the folder of a run that has begun was removed, or
    belongs to another run since. Otherwise two runs would write to one folder.

    The folder is created if it does not exist, and removed again if it stays empty. The operating
    system releases the lock of a process that is killed. Some folders cannot be locked, such as
    read-only ones, which ``check_writable`` refuses, and those on some network file systems. They
    are used without a lock.

    Raises:
        BusyError: another run has locked it.
        OutputError: it cannot be created, or it is a file.
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
    except (Timeout, FileNotFoundError) as error:  # locked, or just removed by its run
        raise BusyError(
            f"out: another run is writing to {folder}; choose another folder with out="
        ) from error
    except OSError:
        pass
    ours = _inode(folder / LOCK)

    def check() -> None:
        if not (folder / CONFIG).exists() or _inode(folder / LOCK) not in (None, ours):
            raise OutputError(f"out: {folder} was removed during the run, which has ended")

    try:
        yield check
    finally:
        # The file is removed before the release, because after it another run may hold this lock.
        # Windows cannot remove an open file. There, filelock removes it after the release.
        with suppress(OSError):
            if _inode(folder / LOCK) == ours:
                (folder / LOCK).unlink()
        lock.release()
        if made:
            with suppress(OSError):
                folder.rmdir()


def check_folder(config: Config) -> None:
    """Refuse a folder that holds files that must not be overwritten.

    Raises:
        OutputError: ``overwrite`` is false, and the folder holds a run that is not to be resumed,
            or holds other files but no run.
    """
    folder = config.folder
    try:
        used = not set(folder.iterdir()) <= {folder / LOCK, *_strays(folder)}
        run = _holds_run(folder)
    except OSError as error:
        raise output_error(folder, error) from error
    if not used or config.overwrite or (run and config.resume):
        return
    ways = "out= chooses another folder"
    if not run:
        raise OutputError(
            f"out: {folder} holds other files but no run to resume; {ways}, overwrite=true writes "
            "to this one and replaces files that have the same names"
        )
    what, ways = "a finished run", f"overwrite=true replaces it, {ways}"
    if not (folder / SUMMARY).exists():
        what, ways = "an unfinished run", f"resume=true continues it, {ways}"
    raise OutputError(f"out: {folder} holds {what}; {ways}")


def check_writable(folder: Path) -> None:
    """Check before the run starts that its files can be written to ``folder``.

    Raises:
        OutputError: no file can be written to it.
    """
    try:
        (folder / PROBE).touch()
        (folder / PROBE).unlink()
    except OSError as error:
        raise output_error(folder / PROBE, error) from error


def tidy(folder: Path) -> None:
    """Remove what a killed run left half-written, as far as possible."""
    for path in _strays(folder):
        with suppress(OSError):
            path.unlink()


def make_room(config: Config) -> None:
    """Remove the summary and evaluation of an earlier run, as the new one is not finished yet.

    With ``overwrite``, all files of an earlier run are removed, and no other files.

    Raises:
        OutputError: a file cannot be removed.
    """
    folder = config.folder
    try:
        if config.overwrite and _holds_run(folder):
            shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
            # What shows that the folder holds a run goes last. If this run is killed meanwhile,
            # the next one knows the rest for an old run's. The new config replaces the old one.
            for name in written(folder):
                if Path(name) not in (CHECKPOINT, Path(CONFIG)):
                    (folder / name).unlink()
            (folder / CHECKPOINT).unlink(missing_ok=True)
        for name in (SUMMARY, EVALUATION):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error


def written(folder: Path) -> list[str]:
    """Return the files in ``folder`` that a run writes, as paths relative to it."""
    return sorted(str(name) for name in OURS if (folder / name).is_file())


def _strays(folder: Path) -> list[Path]:
    """What a killed run may have left in ``folder`` besides its lock and its files."""
    probe = [folder / PROBE] if (folder / PROBE).exists() else []
    return probe + [path for name in OURS for path in left_behind(folder / name)]


def _inode(path: Path) -> tuple[int, int] | None:
    """Which file is at ``path`` now. No other file has this value while ours is open."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _holds_run(folder: Path) -> bool:
    """Whether ``folder`` holds a checkpoint or a ``config.yaml`` that a run wrote."""
    if (folder / CHECKPOINT).exists():
        return True
    if not (folder / CONFIG).is_file():
        return False
    with (folder / CONFIG).open("rb") as file:
        return file.read(len(MARK)) == MARK
