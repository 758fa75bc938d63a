"""Writing files atomically: a file is either complete or not there."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from esd_splat.errors import OutputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers for a full disk, an exhausted quota and a file of maximal size."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path to write to, and move the file to ``path`` if all went well.

    Readers of ``path`` see either the complete old file or the complete new one, even after
    ``kill -9`` or a power cut. A killed writer leaves at most a hidden file ``.<name>.*.tmp`` in
    the same folder. The temporary path has the suffix of ``path``, because writers choose their
    format by it. Missing parent folders are created.

    After any exception the temporary file is removed and ``path`` is unchanged.

    Raises:
        OutputError: the folder cannot be created or written to, or the disk is full.
    """
    target = Path(path)
    temporary = target.with_name(_temporary_name(target, uuid.uuid4().hex[:8]))
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


def left_behind(path: Path | str) -> list[Path]:
    """Return the temporary files that killed writers of ``path`` have left."""
    target = Path(path)
    return sorted(target.parent.glob(_temporary_name(target, "[0-9a-f]" * 8)))


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, atomically.

    Raises:
        OutputError: see ``atomic_path``.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def expanded(path: str) -> Path:
    """Replace a leading ``~`` or ``~name`` by the home folder, unless the user is not known."""
    return Path(os.path.expanduser(path))  # Path.expanduser raises an error for unknown users


def output_error(path: Path | str, error: OSError) -> OutputError:
    """Return the error to raise if writing ``path`` failed with ``error``."""
    reason = error.strerror or str(error) or type(error).__name__
    way_out = "free space there or " if error.errno in FULL else ""
    return OutputError(f"{path}: cannot be written ({reason}); {way_out}choose another folder")


def _temporary_name(target: Path, key: str) -> str:
    return f".{target.stem[:100]}.{key}.tmp{target.suffix}"


def _flush_to_disk(path: Path) -> None:
    # The rename may reach the disk before the data does. A power cut in between would leave a
    # renamed but empty file.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
