"""What the host must know of a finished step, read from the device at once."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from esd_splat.errors import RunError
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize.base import MIN_ALPHA


def checked(
    means: Mapping[str, Float[Tensor, ""]],
    visible: Bool[Tensor, "b n"],
    scene: Gaussians,
    step: int,
) -> dict[str, float]:
    """Return ``means`` as numbers, after a check that the run can go on.

    Every read of a value waits for the device, so all of them are gathered into one tensor first.

    Args:
        means: the values to log, by name.
        visible: which Gaussians the step's views showed.
        scene: the scene after the step.
        step: the number of steps that are done, for the message.

    Raises:
        RunError: a value is NaN or infinite, or all Gaussians vanished.
    """
    finite = {name: value.isfinite().all() for name, value in vars(scene).items()}
    drawn = [visible.any(), (scene.opacities >= MIN_ALPHA).any()]
    gathered = [*means.values(), *finite.values(), *drawn]
    *numbers, seen, opaque = _read(gathered)
    if not seen:
        raise _vanished(scene, step, f"none is visible in any of {len(visible)} views")
    logged = dict(zip(means, numbers, strict=False))
    fine = {name: value == value and abs(value) != float("inf") for name, value in logged.items()}
    fine |= dict(zip(finite, map(bool, numbers[len(means) :]), strict=True))
    if broken := [name for name, whole in fine.items() if not whole]:
        raise RunError(
            f"step {step}: {', '.join(broken)} turned NaN or infinite; lower the learning "
            "rates (optim, lora.lr) or teacher.guidance_scale, or use precision=32"
        )
    if not opaque:
        raise _vanished(scene, step, f"none has the least opacity that is drawn, {MIN_ALPHA:.2g}")
    return logged


def _read(values: list[Tensor]) -> list[float]:
    """Read scalars, those of each device in one copy. The scene may be elsewhere."""
    found = dict.fromkeys(range(len(values)), 0.0)
    for device in {value.device for value in values}:
        rows = [row for row, value in enumerate(values) if value.device == device]
        numbers = torch.stack([values[row].float() for row in rows]).tolist()
        found |= dict(zip(rows, numbers, strict=True))
    return list(found.values())


def _vanished(scene: Gaussians, step: int, how: str) -> RunError:
    return RunError(
        f"step {step}: all {len(scene)} Gaussians vanished: {how}; lower the "
        "learning rates (optim) or the weights in regularise"
    )
