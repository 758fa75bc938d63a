"""Files with settings: the shipped configs, a user's, and the schema of them all.

Imports nothing heavy, so that a wrong key costs no time.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esd_splat.errors import Problem

FOLDERS = (Path(__file__).parent / "configs", Path(__file__).parent.parent / "configs")
"""Where the shipped configs are: in an installed package, in a checkout."""
SCHEMA = "schema.json"
"""The JSON schema beside them, of what this package alone can do."""
DEFAULT = "esd"
"""The shipped config of a run that names none."""


def shipped_configs() -> dict[str, Path]:
    """The configs that come with the package, by name."""
    return {file.stem: file for file in _folder().glob("*.yaml")}


def find_config(path: Path | str) -> Path | None:
    """The file at ``path``, else the shipped config of that name, else ``None``."""
    path = Path(path)
    if path.exists():
        return path
    if path.parent in (Path(), Path("configs")) and path.suffix in ("", ".yaml"):
        return shipped_configs().get(path.stem)
    return None


def read_config(path: Path | str | None) -> tuple[str, list[Problem]]:
    """The text of a config as ``find_config`` finds it, and why it cannot be read.

    Args:
        path: ``None`` is an empty file.
    """
    found = find_config(path) if path is not None else None
    if path is None:
        return "", []
    if found is None:
        shipped = ", ".join(sorted(shipped_configs()))
        message = f"there is no such file, and no shipped config of that name; shipped: {shipped}"
        return "", [Problem("--config", message)]
    try:
        return found.read_text(encoding="utf-8-sig"), []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text in UTF-8"
        return "", [Problem("--config", f"cannot be read: {reason}")]


def source_name(path: Path | str | None) -> str:
    """What messages call a config."""
    return "command line" if path is None else str(path)


def schema() -> Mapping[str, Any]:
    """The JSON schema of every setting of this package, without its code."""
    return json.loads((_folder() / SCHEMA).read_text(encoding="utf-8"))


def _folder() -> Path:
    return next(folder for folder in FOLDERS if folder.is_dir())
