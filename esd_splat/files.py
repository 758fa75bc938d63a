"""Files that are either whole or not there. Knows paths; nothing of what is written."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from esd_splat.errors import OutputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a disk, a quota or a file that has reached its size."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it takes ``path``'s place when all went well.

    Readers of ``path`` see the old file or the new one, whole, also after ``kill -9`` or a power
    cut; a killed writer leaves at most a hidden ``.<name>.*.tmp`` sibling. The suffix of ``path``
    is kept on the temporary name, as writers choose their format by it. Missing parent folders
    are made.

    Raises:
        OutputError: the folder cannot be made or written to, or the disk is full. The temporary
            file is removed and ``path`` is as it was, as after any other exception.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem[:100]}.{uuid.uuid4().hex[:8]}.tmp{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` as UTF-8, atomically.

    Raises:
        OutputError: as ``atomic_path``.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def expanded(path: str) -> Path:
    """``path`` with the home of a user that is known in place of ``~`` or ``~name``."""
    return Path(os.path.expanduser(path))  # Path's own raises a RuntimeError for the others


def output_error(path: Path | str, error: OSError) -> OutputError:
    """The line a user reads when ``error`` kept us from writing ``path``."""
    reason = error.strerror or str(error) or type(error).__name__
    way_out = "free space there or " if error.errno in FULL else ""
    return OutputError(f"{path}: cannot be written ({reason}); {way_out}choose another folder")


def _flush_to_disk(path: Path) -> None:
    # Without it a power cut can leave a renamed but empty file: the rename may reach the disk
    # before the data does.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
