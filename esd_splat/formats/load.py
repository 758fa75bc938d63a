"""Loading of scene files. To add a format, write its decoder and add a line to ``DECODERS``."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from esd_splat.errors import SceneError, reading
from esd_splat.formats.base import check_values
from esd_splat.formats.frame import from_file_frame
from esd_splat.formats.ply import decode_ply
from esd_splat.formats.sog import decode_sog
from esd_splat.formats.splat import decode_splat
from esd_splat.formats.spz import decode_spz
from esd_splat.scene.gaussians import Gaussians

DECODERS: dict[str, Callable[[bytes], Gaussians]] = {
    ".ply": decode_ply,  # plain or compressed
    ".sog": decode_sog,
    ".splat": decode_splat,
    ".spz": decode_spz,
}
"""Decoders by file suffix."""


def load_scene(path: Path | str) -> Gaussians:
    """Read a scene file, written by this program or another. Its suffix determines the format.

    Returns:
        The scene in float32, on the CPU, y up. A ``.ply`` gives back the bits that were written.

    Raises:
        SceneError: there is no reader for the suffix, or the file is missing, cut short, not a
            Gaussian splat, or holds NaN, infinity or a zero quaternion. The message is one line.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in DECODERS:
        raise unknown_format(path, DECODERS)
    return _load(path, suffix)


def unknown_format(path: Path | str, suffixes: Iterable[str]) -> SceneError:
    """Return the error to raise for a file whose suffix is not one of ``suffixes``."""
    asked, known = Path(path).suffix.lower(), sorted(suffixes)
    message = f"{path}: {asked or 'an empty suffix'} is not one of {', '.join(known)}"
    close = get_close_matches(asked, known, n=1)
    return SceneError(f"{message}; did you mean {close[0]}?" if close else message)


def load_ply(path: Path | str) -> Gaussians:
    """Read a ``.ply``, plain or compressed, whatever its suffix. See also ``load_scene``."""
    return _load(path, ".ply")


def _load(path: Path | str, suffix: str) -> Gaussians:
    damaged = f"not a {suffix} file, or cut short"
    # check_values reports NaN and infinity.
    with reading(path, SceneError, damaged, "; export or copy it again"), np.errstate(all="ignore"):
        content = Path(path).read_bytes()
        try:
            scene = DECODERS[suffix](content)
            check_values(scene)
        except SceneError as error:
            raise SceneError(f"{path}: cannot be used: {error}") from error
    return from_file_frame(scene)
