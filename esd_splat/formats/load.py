"""Scenes from files of every format that is read. To add one: write its decoder, add its line."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from esd_splat.errors import SceneError
from esd_splat.formats.base import check_values
from esd_splat.formats.frame import from_file_frame
from esd_splat.formats.ply import decode_ply
from esd_splat.formats.sog import decode_sog
from esd_splat.formats.splat import decode_splat
from esd_splat.formats.spz import decode_spz
from esd_splat.scene.gaussians import Gaussians

DECODERS: dict[str, Callable[[bytes], Gaussians]] = {
    ".ply": decode_ply,  # compressed or not
    ".sog": decode_sog,
    ".splat": decode_splat,
    ".spz": decode_spz,
}
"""By the suffix of the file."""


def load_scene(path: Path | str) -> Gaussians:
    """Read a scene of any format, from this program or another, by the suffix of its name.

    Returns:
        Float32, on the CPU, y up. What ``.ply`` holds has the same bits as before it was written.

    Raises:
        SceneError: there is no reader for the suffix, or the file is missing, cut short, not a
            splat, or holds NaN, infinity or a zero quaternion. One line.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in DECODERS:
        raise unknown_format(path, DECODERS)
    return _load(path, suffix)


def unknown_format(path: Path | str, suffixes: Iterable[str]) -> SceneError:
    """What to raise for a file whose name ends in none of ``suffixes``."""
    asked, known = Path(path).suffix.lower(), sorted(suffixes)
    message = f"{path}: {asked or 'no suffix'} is none of {', '.join(known)}"
    close = get_close_matches(asked, known, n=1)
    return SceneError(f"{message}; did you mean {close[0]}?" if close else message)


def load_ply(path: Path | str) -> Gaussians:
    """Read a ``.ply``, compressed or not, whatever its name; else as ``load_scene``."""
    return _load(path, ".ply")


def _load(path: Path | str, suffix: str) -> Gaussians:
    try:
        content = Path(path).read_bytes()
        with np.errstate(all="ignore"):  # what is no number, or too large, is counted below
            scene = DECODERS[suffix](content)
        check_values(scene)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SceneError as error:
        raise SceneError(f"{path}: cannot be used: {error}") from error
    except (ValueError, OverflowError, MemoryError) as error:
        # What the decoders raise for what is no such file; the last two, for absurd numbers.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SceneError(
            f"{path}: not a {suffix} file, or cut short ({reason}); export or copy it again"
        ) from error
    return from_file_frame(scene)
