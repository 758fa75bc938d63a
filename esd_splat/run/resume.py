"""Going on with a run: whether anything is left to do, from which state and with which settings."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from esd_splat.command import say as tell
from esd_splat.config import Config, load_config
from esd_splat.errors import CheckpointError, NewerCheckpointError
from esd_splat.run.checkpoint import load_checkpoint
from esd_splat.run.device import DECIDED
from esd_splat.run.folder import CHECKPOINT, CONFIG, SUMMARY
from esd_splat.run.observer import Observer
from esd_splat.settings import load, read_flat, to_yaml

REQUIRED = ("config", "run", "record")
FREE_TO_CHANGE = {
    *("out", "resume", "overwrite", "view", "view_port", "checkpoint_every", "measure", "export"),
    "memory",
}
"""Keys that may differ from one part of a run to the next, as the scene does not depend on them."""
SHEET_KEYS = ("elevation", "sheet_views")
"""Keys of ``export`` that may no longer change once rows of a contact sheet have been drawn, as all
pictures in a column show the scene from one side."""
FORMERLY = {"particle": "lora"}
"""Names of parts of a run's state in older checkpoints."""
MOST_NAMED = 5
"""The most values of the earlier run that an error message names."""


def finished(config: Config) -> dict[str, Any] | None:
    """The summary of the run in the folder, if ``resume=true`` has nothing left to do for it.

    Raises:
        CheckpointError: the run had other settings.
    """
    folder = config.folder
    if not (config.resume and (folder / SUMMARY).exists() and (folder / CONFIG).exists()):
        return None
    before = load_config(folder / CONFIG)
    refuse_changes(config, before)
    try:
        summary = dict(json.loads((folder / SUMMARY).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None  # damaged, so it is written again
    same = (config.export, config.measure) == (before.export, before.measure)
    return summary if same else None


def absent_files(config: Config, observers: Sequence[Observer]) -> list[str]:
    """Return the names of the files that the folder of a finished run should have and lacks."""
    due = [f"scene.{name}" for name in config.export.formats]
    due += [name for observer in observers for name in observer.leaves()]
    return [name for name in due if not (config.folder / name).exists()]


def earlier_part(
    config: Config, say: Callable[[str], None]
) -> tuple[Config, dict[str, Any] | None]:
    """The settings of the run that ``config`` goes on with, and its latest checkpoint.

    Returns:
        ``config`` itself for a new run, and ``None`` where there is no checkpoint to go on from.

    Raises:
        CheckpointError: the run had other settings, or the checkpoint is of a newer version.
    """
    saved = _saved_state(config, say) if config.resume else None
    before = config
    if saved:
        before = load(Config, saved["config"], source=CHECKPOINT.name)
    elif config.resume and (config.folder / CONFIG).exists():
        before = load_config(config.folder / CONFIG)
    refuse_changes(config, before, drawn=bool(saved and saved["record"].get("sheets")))
    return before, saved


def _saved_state(config: Config, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The checkpoint to go on from, or ``None`` where there is none that can be used.

    Raises:
        CheckpointError: a finished run has no usable checkpoint. Starting it again from step 0
            would replace what it made, and must be asked for.
        NewerCheckpointError: the checkpoint is of a newer version.
    """
    path, ended = config.folder / CHECKPOINT, (config.folder / SUMMARY).exists()
    if not path.exists() and not ended:
        say(f"{config.folder} has no checkpoint yet: starting from step 0")
        return None
    try:
        return _with_current_names(load_checkpoint(path, required=REQUIRED))
    except NewerCheckpointError:
        raise
    except CheckpointError as error:
        if ended:
            raise CheckpointError(
                f"resume: {error}, and what is missing or was asked for besides is made from it; "
                f"ask for what {CONFIG} has, or overwrite=true makes the run again"
            ) from error
        # Said even by a quiet run, as all that it had done is lost.
        tell(f"{error}; starting from step 0", to_stderr=True)
        return None


def _with_current_names(state: Any) -> Any:
    """``state`` of a checkpoint with the names that its parts have now."""
    if isinstance(state, dict):
        return {FORMERLY.get(key, key): _with_current_names(part) for key, part in state.items()}
    return [_with_current_names(part) for part in state] if isinstance(state, list) else state


def refuse_changes(config: Config, before: Config, *, drawn: bool = False) -> None:
    """A run goes on with the settings it began with, or not at all.

    Args:
        config: what was asked for.
        before: what the run began with.
        drawn: whether its checkpoint holds rows of a contact sheet, which later rows must match.

    Raises:
        CheckpointError: a setting differs that may not.
    """
    asked, had = vars(config), vars(before)
    changed = [
        name
        for name, value in asked.items()
        if name not in FREE_TO_CHANGE
        and value != had[name]
        and not (name in DECIDED and value == "auto")
    ]
    if drawn:
        wanted, had = vars(config.export), vars(before.export)
        changed += [f"export.{name}" for name in SHEET_KEYS if wanted[name] != had[name]]
    if changed:
        raise CheckpointError(
            f"resume: the run in {config.folder} had other settings for {', '.join(changed)} "
            f"({_differing(before, config, changed)}); use those of its config.yaml, or choose "
            "another folder with out="
        )


def _differing(before: Config, asked: Config, names: list[str]) -> str:
    """The values in ``before`` that differ from those asked for, among the keys ``names``."""
    had, wanted = (read_flat(to_yaml(config), CONFIG) for config in (before, asked))
    sections = tuple(f"{name}." for name in names)
    values = [
        f"{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in had.items()
        if f"{key}.".startswith(sections) and wanted.get(key, ...) != value
    ]
    return ", ".join(values[:MOST_NAMED]) + (", ..." if len(values) > MOST_NAMED else "")
