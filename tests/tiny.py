"""Teachers small enough for tests: the real classes of each family, random weights."""

from pathlib import Path

from esd_splat.config import Config, load_config
from esd_splat.teacher.random_weights import save_blank

IMAGE_SIZE = 16
DEFAULTS = Path(__file__).with_name("defaults.yaml")
"""A config of nothing: without one, the command takes ``esd.yaml``."""


def save_tiny(folder: Path, prediction_type: str = "epsilon") -> Path:
    """16 x 16 pictures, 4 x 4 latents; the same weights every time."""
    return save_blank(folder, "tiny-sd", predicts=prediction_type)


def tiny_config(model: Path, out: Path, *more: str) -> Config:
    """A short run of such a teacher; ``more`` takes the place of what stands here."""
    keys = {
        "prompt": "a red owl",
        "teacher.model": model,
        "out": out,
        "steps": 3,
        "batch": 2,
        "cameras.size": IMAGE_SIZE,
        "export.frames": 2,
        "export.size": IMAGE_SIZE,
        "export.report": "false",
        "measure.views": 8,
        "init": "{name: ball, count: 30}",
    }
    keys |= dict(override.split("=", 1) for override in more)
    return load_config(None, [f"{key}={value}" for key, value in keys.items()])
