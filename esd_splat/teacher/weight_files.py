"""What the header of a weight file says, and what a file is that is no weight file."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from esd_splat.errors import TeacherError, quoted
from esd_splat.teacher.loading import PICKLES, SAFE, DamagedError

_STARTS = (
    (rb"\s*<", "it is a web page; download the file itself, logged in if it is gated"),
    (rb"version https://git-lfs", "it is a pointer of Git LFS; fetch the file with git lfs pull"),
    (rb"PK\x03\x04|\x80[\x02-\x05]", f"it is a pickle by its content; give a {SAFE} file"),
    (rb"GGUF", f"it is a GGUF file by its content; give a {SAFE} file"),
    (rb"\s*\{", f"it is a text in JSON; give a {SAFE} file"),
)
"""How the first bytes tell files that are taken for weight files."""


class Stored(NamedTuple):
    """How a weight is stored."""

    dtype: str
    """Its type in the terms of safetensors, such as F16, F8_E4M3 or U8."""
    shape: tuple[int, ...]


def read_header(key: str, path: Path) -> dict[str, Stored]:
    """Return how the weights in a file that a user gave for ``key`` are stored. None is read.

    Raises:
        TeacherError: the file does not exist, is a pickle, or is not a safetensors file.
    """
    if path.suffix.lower() in PICKLES:
        raise TeacherError(
            f"{key}: {path} is a pickle, and reading a pickle can run any code in it; give the "
            f"{SAFE} file of the same weights, or convert it on an isolated machine"
        )
    try:
        return _read(path)
    except (OSError, DamagedError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise TeacherError(f"{key}: cannot read {path}: {why or error}") from error


def check_part(folder: Path, names: list[str]) -> None:
    """Check the weight files of a network before a library opens them.

    Args:
        folder: the network's folder.
        names: the names of its weight files, or of the index of their parts.

    Raises:
        DamagedError: a file is cut off or is no safetensors file, also by an index.
    """
    for name in names:
        if name.endswith(".json"):
            check_index(folder / name)
        else:
            try:
                _read(folder / name)
            except DamagedError as error:
                raise DamagedError(f"{folder.name}/{name}: {error}") from error


def check_index(path: Path) -> None:
    """Check that an index names safetensors files beside it, as the libraries would open any."""
    try:
        named = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path.name} names no weight files") from error
    for name in named:
        if not isinstance(name, str) or not re.fullmatch(rf"\w[\w.-]*{re.escape(SAFE)}", name):
            raise DamagedError(
                f"{path.name} names {quoted(name)}, which is no {SAFE} file beside it"
            )


def _read(path: Path) -> dict[str, Stored]:
    with path.open("rb") as opened:
        first = opened.read(100)
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            return {n: Stored(s.get_dtype(), tuple(s.get_shape())) for n, s in slices.items()}
    except SafetensorError as error:
        size = path.stat().st_size
        what = next((what for start, what in _STARTS if re.match(start, first)), None)
        if size == 0:
            what = "it is empty; download it again"
        # After eight bytes for its length, the header begins with this brace.
        elif first[8:9] == b"{" or (what is None and size <= 8):
            what = f"it is cut off or damaged, at {size} bytes; download or copy it again"
        raise DamagedError(what or f"it is not a {SAFE} file ({error})") from error
