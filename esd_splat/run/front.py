"""The azimuth that the front of a run's scene faces, as the files of the run tell."""

import json
from pathlib import Path

from esd_splat.errors import EsdSplatError, reading
from esd_splat.run.folder import EVALUATION, SCENES, SUMMARY


def known_front(scene: Path) -> float:
    """Return where the front of a scene file is, in degrees of azimuth.

    For figurines this is ``rotation_deg`` in the run's ``summary.json``. For other objects it is
    what a judge found, which ``esd_splat.evaluate`` writes to ``evaluation.json``.

    Args:
        scene: the scene file that a run wrote, in the folder of the run.

    Raises:
        EsdSplatError: The file is not the scene of a run, or the front is unknown.
    """
    folder = scene.parent
    if scene.name not in SCENES or not any((folder / n).exists() for n in (SUMMARY, EVALUATION)):
        raise EsdSplatError(
            f"{scene}: is not the scene of an evaluated or finished run, so its front is unknown; "
            "give the angle in degrees"
        )
    front = (_read(folder / SUMMARY).get("measures") or {}).get("rotation_deg")
    if front is None:
        front = _read(folder / EVALUATION).get("front_deg")
    if not isinstance(front, int | float):
        raise EsdSplatError(
            f"{folder}: the front of the scene is unknown; give the angle in degrees, or let a "
            f"judge look for it: esd-splat evaluate {folder}"
        )
    return float(front)


def _read(path: Path) -> dict:
    if not path.exists():
        return {}
    with reading(path, EsdSplatError, "cannot be read"):
        return dict(json.loads(path.read_text(encoding="utf-8")))
