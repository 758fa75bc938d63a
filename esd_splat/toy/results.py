"""The files that the toy writes, and the folder for them."""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch

from esd_splat.errors import OutputError
from esd_splat.files import atomic_path
from esd_splat.toy.draw import Panel, Window, gif, picture, png
from esd_splat.toy.fit import Fit
from esd_splat.toy.settings import Settings

RESULT, FINAL, TRAJECTORY = "result.json", "final_result.png", "trajectory.gif"
MAX_FRAMES = 400
"""The largest number of frames in a trajectory. Longer ones are thinned out evenly."""
PAPER_NOTE = "the paper's noise schedule: not variance preserving"
PAPER_SDS_NOTE = "the paper's SDS estimator: WRONG"


def note(settings: Settings) -> str:
    """Return what is wrong with a run by design. Empty without ``--paper``."""
    if not settings.paper:
        return ""
    return PAPER_SDS_NOTE if settings.method == "sds" else PAPER_NOTE


def summary(fit: Fit) -> dict[str, Any]:
    """Return the numbers of a fit in a form that JSON can store."""
    expected, target, fitted = fit.expected_cov, fit.target, fit.fitted
    largest = torch.linalg.matrix_norm(target.cov, 2)
    return {
        "method": fit.settings.method,
        "lambda_coeff": fit.settings.entropy_weight,
        "paper": fit.settings.paper,
        "warning": note(fit.settings) or None,
        "steps": fit.steps[-1],
        "q_mean": fitted.mean.tolist(),
        "q_cov": fitted.cov.tolist(),
        "p_mean": target.mean.tolist(),
        "p_cov": target.cov.tolist(),
        "q_cov_expected": None if expected is None else expected.tolist(),
        "mean_error": float((fitted.mean - target.mean).norm()),
        "cov_error": None
        if expected is None
        else float((fitted.cov - expected).abs().max() / largest),
    }


def describe(fit: Fit) -> str:
    """Return the numbers of a fit as a line for people."""
    numbers = summary(fit)

    def spread(cov: Any) -> str:
        values = torch.linalg.eigvalsh(torch.tensor(cov, dtype=torch.float64)).tolist()
        return (
            " ".join(f"{v:.4f}" for v in values)
            if len(values) <= 4
            else (f"{values[0]:.4f} ... {values[-1]:.4f}")
        )

    expected = numbers["q_cov_expected"]
    line = f"{fit.settings.title}: variances {spread(numbers['q_cov'])}"
    line += "" if expected is None else f", expected {spread(expected)}"
    line += f", target {spread(numbers['p_cov'])}; mean off by {numbers['mean_error']:.4f}"
    warning = f"  [{numbers['warning']}]" if numbers["warning"] else ""
    return f"{line}; {fit.steps[-1]} steps in {fit.seconds:.1f} s{warning}"


def contents(settings: Settings, fits: Sequence[Fit]) -> dict[str, bytes]:
    """Return all files by name. The same settings give the same bytes on the same machine."""
    top = next(f for f in fits if f.settings.method == settings.method)
    result = summary(top)
    if settings.compare:
        result["fits"] = {f.settings.method: summary(f) for f in fits}
    shared = {"output_dir", "compare", "method"}
    result["settings"] = {k: v for k, v in asdict(settings).items() if k not in shared}
    result["settings"] |= {"lr": settings.learning_rate, "warmup_steps": settings.warmup}
    files: dict[str, bytes] = {}
    if settings.save_video:
        files[TRAJECTORY] = trajectory(fits, settings.fps_video)
    near = Window.around([g for f in fits for g in (f.target, f.fitted)])
    files[FINAL] = png(picture([_panel(f, len(f.path), f.settings.title) for f in fits], near))
    # This one is last, so that a folder that has it has the others too.
    files[RESULT] = (json.dumps(result, indent=2) + "\n").encode()
    return files


def trajectory(fits: Sequence[Fit], fps: int) -> bytes:
    """Return a GIF of all fits over time, side by side, in one window that holds them all."""
    window = Window.around([g for f in fits for g in (f.target, *f.path)])
    total = len(fits[0].path)
    count = min(total, MAX_FRAMES)
    kept = sorted({round(i * (total - 1) / max(1, count - 1)) for i in range(count)})
    frames = [
        picture([_panel(f, k + 1, f"{f.settings.title} - step {f.steps[k]}") for f in fits], window)
        for k in kept
    ]
    return gif(frames, fps)


def _panel(fit: Fit, upto: int, title: str) -> Panel:
    return Panel(title, note(fit.settings), fit.target, fit.path[:upto], fit.shown)


def check_folder(folder: Path) -> None:
    """Check before any work that the results can be written to ``folder``.

    Raises:
        OutputError: it is not a folder, cannot be written to, or holds files that are not results.
    """
    there = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
    if not there.is_dir():
        raise OutputError(f"--output_dir {folder}: {there} is not a folder; choose another")
    try:
        names = [p.name for p in folder.iterdir()] if there == folder else []
        with TemporaryFile(dir=there):  # checking permissions is not enough, as root has them all
            pass
    except OSError as error:
        reason = f"cannot be written to ({error.strerror})"
        raise OutputError(f"--output_dir {folder}: {there} {reason}; choose another") from error
    visible = {name for name in names if not name.startswith(".")}
    if foreign := sorted(visible - {RESULT, FINAL, TRAJECTORY}):
        some = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise OutputError(
            f"--output_dir {folder}: holds other files ({some}); choose a new or empty folder"
        )


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files into ``folder``, in order, and remove other files of an earlier run.

    Raises:
        OutputError: a file could not be written. In this case, no file has been replaced.
    """
    made = not folder.exists()
    try:
        # All files are written before any is replaced. A stack exits in reverse order.
        with ExitStack() as stack:
            for name, data in reversed(files.items()):
                stack.enter_context(atomic_path(folder / name)).write_bytes(data)
        if TRAJECTORY not in files:
            (folder / TRAJECTORY).unlink(missing_ok=True)
    except OutputError:
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise
