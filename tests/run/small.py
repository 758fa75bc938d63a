"""Short runs of a small teacher, in which every part of the state changes."""

from pathlib import Path

from esd_splat.config import Config, load_config
from tests.tiny import IMAGE_SIZE


def small_keys(model: Path, out: Path, *more: str) -> list[str]:
    """A run of 40 small steps in which every part of the state changes, the row count too."""
    keys = [
        "prompt=a red owl",
        f"teacher.model={model}",
        f"out={out}",
        *("steps=40", "batch=2", f"cameras.size={IMAGE_SIZE}", "checkpoint_every=20"),
        *("init.count=30", "densify.every=6", "densify.min_count=5", "densify.grow_ratio=1.0"),
        *("loss.entropy_weight=0.5", "teacher.guidance_scale=2", "lora.rank=2"),
        *("export.frames=2", f"export.size={IMAGE_SIZE}", "export.report=false"),
        "measure.views=8",
        *("log.every=5", "log.sheet_every=10"),
    ]
    replaced = {key.partition("=")[0] for key in more}
    return [key for key in keys if key.partition("=")[0] not in replaced] + list(more)


def small_config(model: Path, out: Path, *more: str) -> Config:
    return load_config(None, small_keys(model, out, *more))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("scene.ply", "contact_sheet.png")}
