"""Config files: those that ship with us and those of users, their JSON schema, and prompt lists.

Nothing heavy is imported here, so that a wrong key is reported at once.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esd_splat.errors import Problem, reason
from esd_splat.settings.source import MOST_BYTES

FOLDERS = (Path(__file__).parent / "configs", Path(__file__).parent.parent / "configs")
"""Where the shipped configs are in an installed package, and in a checkout."""
SCHEMA = "schema.json"
"""The JSON schema beside them. It describes this package without plug-ins from other packages."""
DEFAULT = "esd"
"""The shipped config that is used for a run without ``--config``."""


def shipped_configs() -> dict[str, Path]:
    """Return the configs that come with the package, by name."""
    return {file.stem: file for file in _folder().glob("*.yaml")}


def shipped_prompts(name: str) -> list[str]:
    """Return a list of prompts that comes with the package, one a line in a text file.

    Args:
        name: ``prompts_front``, of 60 things that have a front, or ``prompts_no_front``, of 20 that
            look alike from all around. No setting of this package was chosen on any of them.
    """
    return (_folder() / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def find_config(path: Path | str) -> Path | None:
    """Return the file at ``path``, the shipped config of that name, or ``None``."""
    path = Path(path)
    if path.exists():
        return path
    if path.parent in (Path(), Path("configs")) and path.suffix in ("", ".yaml"):
        return shipped_configs().get(path.stem)
    return None


def read_config(path: Path | str | None) -> tuple[str, list[Problem]]:
    """Return the text of the config that ``find_config`` finds, and why it cannot be read.

    Args:
        path: ``None`` counts as an empty file.
    """
    found = find_config(path) if path is not None else None
    if path is None:
        return "", []
    if found is None:
        shipped = ", ".join(sorted(shipped_configs()))
        message = f"there is no such file, and no shipped config of that name; shipped: {shipped}"
        return "", [Problem("--config", message)]
    try:
        with found.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            return "", [Problem("--config", f"has more than {MOST_BYTES // 1024} kB")]
        return content.decode("utf-8-sig"), []
    except (OSError, UnicodeDecodeError) as error:
        why = reason(error) if isinstance(error, OSError) else "is not text in UTF-8"
        return "", [Problem("--config", f"cannot be read: {why}")]


def source_name(path: Path | str | None) -> str:
    """Return the name of a config in messages."""
    return "command line" if path is None else str(path)


def schema() -> Mapping[str, Any]:
    """Return the JSON schema of all settings of this package, without importing their code."""
    return json.loads((_folder() / SCHEMA).read_text(encoding="utf-8"))


def _folder() -> Path:
    return next(folder for folder in FOLDERS if folder.is_dir())
