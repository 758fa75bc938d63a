"""Measures the gradient of each Gaussian and decides which ones to drop, keep, clone or split.

Each function exists in PyTorch, which defines the result, and as a compiled kernel.
"""

from dataclasses import astuple, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from esd_splat.scene import kernels
from esd_splat.scene.densify.growth import CLONE, DROP, KEEP, SPLIT
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize.base import drawable


@dataclass(frozen=True)
class Limits:
    """Thresholds for ``classify``.

    They apply to log scales and opacity logits as they are stored, so that the rounding of an
    activation function cannot decide about a row.
    """

    largest: float
    """Rows whose largest log scale is above this are dropped."""
    faintest: float
    """Rows with an opacity logit below this are dropped."""
    faintest_to_grow: float
    """Rows with an opacity logit below this do not grow."""
    split_above: float
    """Growing rows whose largest log scale is above this are split, the others are cloned."""
    grow_ratio: float
    """A row grows if its mean gradient length is above this multiple of the mean over all kept
    rows that were seen."""


def classify(
    scene: Gaussians,
    gradient: Float[Tensor, " n"],
    seen: Int[Tensor, " n"],
    limits: Limits,
    keep: Bool[Tensor, " n"] | None = None,
) -> tuple[UInt8[Tensor, " n"], int, int]:
    """Choose an action for each row from its parameters and its recorded gradients.

    Reading the counts waits for the device. No other part of an edit does, unless too few rows
    would be left.

    Args:
        scene: the Gaussians.
        gradient: sum of the lengths of each row's image-plane gradients over ``seen`` views.
        seen: number of views in which each row was visible.
        limits: thresholds for dropping, growing and splitting.
        keep: the rows to keep; ``None`` keeps those within ``limits``.

    Returns:
        ``DROP``, ``KEEP``, ``CLONE`` or ``SPLIT`` for each row, the number of rows that are not
        dropped, and the number of rows that grow.
    """
    choose = classify_native if kernels.has("classify", gradient) else classify_torch
    action, counts = choose(scene, gradient, seen, limits, keep)
    kept, growing = counts.tolist()
    return action, kept, growing


def classify_native(
    scene: Gaussians, gradient: Tensor, seen: Tensor, limits: Limits, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute the same as ``classify_torch`` with a compiled kernel."""
    fields = [value.detach() for value in vars(scene).values()]
    return kernels.ops.classify(fields, gradient, seen, keep, *astuple(limits))


@kernels.fake("classify")
def _(fields: list[Tensor], gradient: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(gradient, dtype=torch.uint8), gradient.new_empty(2, dtype=torch.int64)


def classify_torch(
    scene: Gaussians, gradient: Tensor, seen: Tensor, limits: Limits, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the action of each row, and the numbers of rows that are kept and that grow."""
    size = scene.log_scales.amax(-1)
    if keep is None:
        visible = (size <= limits.largest) & (scene.opacity_logits >= limits.faintest)
        keep = drawable(scene) & visible
    steepness = gradient / seen.clamp(min=1)
    known = keep & (seen > 0)
    usual = steepness[known].mean()
    grows = known & (scene.opacity_logits >= limits.faintest_to_grow)
    grows &= steepness > limits.grow_ratio * usual
    action = torch.where(keep, KEEP, DROP)
    action = torch.where(grows, torch.where(size > limits.split_above, SPLIT, CLONE), action)
    return action.to(torch.uint8), torch.stack([keep.sum(), grows.sum()])


def observe_native(gradient: Tensor, seen: Tensor, grad2d: Tensor, visible: Tensor) -> None:
    """Do the same as ``observe_torch`` with a compiled kernel."""
    kernels.ops.observe(gradient, seen, grad2d.contiguous(), visible.contiguous())


@kernels.fake("observe")
def _(gradient: Tensor, seen: Tensor, grad2d: Tensor, visible: Tensor) -> None: ...


def observe_torch(
    gradient: Float[Tensor, " n"],
    seen: Int[Tensor, " n"],
    grad2d: Float[Tensor, "b n 2"],
    visible: Bool[Tensor, "b n"],
) -> None:
    """Add the gradient lengths of the visible rows to ``gradient``, and their views to ``seen``.

    Both are changed in place, view by view in order. A length is computed in double precision and
    rounded once to single precision, so that it is the same on all devices, although torch's
    square root of doubles is not always correctly rounded.
    """
    for grad, shown in zip(grad2d.double(), visible, strict=True):
        length = (grad[:, 0] * grad[:, 0] + grad[:, 1] * grad[:, 1]).sqrt().float()
        # where() instead of a product, as the gradient of an invisible row may be NaN.
        gradient += torch.where(shown, length, 0.0)
        seen += shown
