"""Teachers small enough for tests: the real classes of each family, random weights."""

from pathlib import Path

from esd_splat.teacher.blank import save_blank

IMAGE_SIZE = 16


def save_tiny(folder: Path, prediction_type: str = "epsilon") -> Path:
    """16 x 16 pictures, 4 x 4 latents; the same weights every time."""
    return save_blank(folder, "tiny-sd", predicts=prediction_type)
