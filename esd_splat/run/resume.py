"""What is decided before the first step: where to compute, what to go on from, what is told."""

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

import torch

from esd_splat.config import Config, load_config
from esd_splat.errors import BackendError, CheckpointError, NewerCheckpointError
from esd_splat.run.checkpoint import load_checkpoint
from esd_splat.run.folder import CHECKPOINT, CONFIG, SUMMARY
from esd_splat.scene import kernels
from esd_splat.scene.rasterize import resolve_backend
from esd_splat.settings import load, read_flat, to_yaml
from esd_splat.teacher.view_prompts import VIEWS

REQUIRED = ("config", "run", "record")
FREE_TO_CHANGE = {
    *("out", "resume", "overwrite", "view", "view_port", "checkpoint_every", "measure", "export"),
    "memory",
}
"""Keys that may differ between the parts of a run, as they do not touch the scene."""
MOST_NAMED = 5
"""Values of another run that an error tells, at most."""
DECIDED = ("device", "backend")
"""Keys whose ``auto`` is decided once, before the first step."""


def finished(config: Config) -> dict[str, Any] | None:
    """The summary of the run in the folder, where ``resume=true`` has nothing left to do for it.

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
    except (OSError, ValueError, TypeError):
        return None  # damaged: to be written anew
    same = (config.export, config.measure) == (before.export, before.measure)
    return summary if same else None


def settle(config: Config, say: Callable[[str], None]) -> tuple[Config, dict[str, Any] | None]:
    """``config`` with nothing left to decide in it, and the checkpoint to go on from, if any.

    ``auto`` means what it meant before, or else means now.

    Raises:
        CheckpointError: the run had other settings, or is of a newer version.
        BackendError: what was asked for cannot compute here.
    """
    saved = _saved_state(config, say) if config.resume else None
    before = config
    if saved:
        before = load(Config, saved["config"], source=CHECKPOINT.name)
    elif config.resume and (config.folder / CONFIG).exists():
        before = load_config(config.folder / CONFIG)
    refuse_changes(config, before, begun=bool(saved and saved["record"]["sheets"]))
    asked = {
        name: getattr(before if getattr(config, name) == "auto" else config, name)
        for name in DECIDED
    }
    device = _device(asked["device"], begun=saved is not None)
    backend = resolve_backend(asked["backend"], device.type)
    if backend == "reference" and device.type == "cpu" and kernels.MISSING:
        say(f"no compiled kernels, so PyTorch draws, more slowly; {kernels.COMPILE}")
    if device.type == "cuda" and not kernels.has("grow", torch.empty(0, device=device)):
        say(f"no kernels for CUDA, so PyTorch densifies, more slowly; {kernels.COMPILE}")
    return dataclasses.replace(config, device=device.type, backend=backend), saved


def _saved_state(config: Config, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The checkpoint to go on from, or ``None`` where there is none that can be used.

    Raises:
        CheckpointError: so it is, and the run was finished: what it made is not made again unasked.
    """
    path, ended = config.folder / CHECKPOINT, (config.folder / SUMMARY).exists()
    if not path.exists() and not ended:
        say(f"{config.folder} has no checkpoint yet: starting from step 0")
        return None
    try:
        return load_checkpoint(path, required=REQUIRED)
    except NewerCheckpointError:
        raise
    except CheckpointError as error:
        if ended:
            raise CheckpointError(
                f"resume: {error}, and what was asked for besides is made from it; ask for what "
                f"{CONFIG} has, or overwrite=true makes the run again"
            ) from error
        # Even of a quiet run: all that it had done is lost.
        print(f"{error}; starting from step 0", file=sys.stderr, flush=True)
        return None


def refuse_changes(config: Config, before: Config, *, begun: bool = False) -> None:
    """A run goes on with the settings it began with, or not at all.

    Args:
        begun: whether it has drawn rows of its contact sheet, which the others must match.
    """
    asked, had = vars(config), vars(before)
    changed = [
        name
        for name, value in asked.items()
        if name not in FREE_TO_CHANGE
        and value != had[name]
        and not (name in DECIDED and value == "auto")
    ]
    if begun:
        wanted, drawn = _sheet_row(config), _sheet_row(before)
        changed += [f"export.{name}" for name in drawn if wanted[name] != drawn[name]]
    if changed:
        raise CheckpointError(
            f"resume: the run in {config.folder} had other settings for {', '.join(changed)} "
            f"({_differing(before, config, changed)}); use those of its config.yaml, or choose "
            "another folder with out="
        )


def _differing(before: Config, asked: Config, names: list[str]) -> str:
    """The values that ``before`` had of the keys ``names``, or of some of what is in them."""
    had, wanted = (read_flat(to_yaml(config), CONFIG) for config in (before, asked))
    sections = tuple(f"{name}." for name in names)
    values = [
        f"{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in had.items()
        if f"{key}.".startswith(sections) and wanted.get(key, ...) != value
    ]
    return ", ".join(values[:MOST_NAMED]) + (", ..." if len(values) > MOST_NAMED else "")


def _sheet_row(config: Config) -> dict[str, float]:
    """What of ``export`` the rows of a contact sheet hang on."""
    export = config.export
    size = export.size or config.cameras.size
    return {"size": size, "elevation": export.elevation, "sheet_views": export.sheet_views}


def texts(config: Config) -> dict[str, str]:
    """All that the teacher will be told, by the key to change if it cannot understand."""
    views = config.teacher.views
    told = {"prompt": config.prompt, "negative_prompt": config.negative_prompt}
    said = views.texts(config.prompt, highest=config.cameras.elevation[1])
    return told | {
        f"teacher.views ({view} view)": text for view, text in zip(VIEWS, said, strict=True)
    }


def _device(name: str, *, begun: bool) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        # Not the CPU for a run that has begun: there it would be another one.
        other = "go on with the run where it began" if begun else "use device=cpu"
        raise BackendError(
            f"device: cuda was asked for and torch finds no CUDA device; {other}, or install a "
            "CUDA build of torch and a driver"
        )
    return torch.device(name)
