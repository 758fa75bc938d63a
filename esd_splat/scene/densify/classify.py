"""What is seen of each row, and what should become of it; in PyTorch and by our kernels."""

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
    """Thresholds on stored values, so that no rounding of an exponential decides about a row."""

    largest: float
    """Rows with a logarithmic scale above this are dropped."""
    faintest: float
    """Rows with an opacity logit below this are dropped,"""
    faintest_to_grow: float
    """and those below this do not grow."""
    split_above: float
    """Logarithmic scale above which a row that grows is split, and not cloned."""
    grow_ratio: float
    """Steepness, over the mean of all kept rows that were seen, above which a row grows."""


def classify(
    scene: Gaussians,
    gradient: Float[Tensor, " n"],
    seen: Int[Tensor, " n"],
    limits: Limits,
    keep: Bool[Tensor, " n"] | None = None,
) -> tuple[UInt8[Tensor, " n"], int, int]:
    """The action that each row's own numbers ask for.

    Args:
        scene: the rows.
        gradient: sum of the lengths of a row's image-plane gradients, over ``seen`` views.
        seen: views that a row was visible in.
        limits: when a row is dropped, and when it grows.
        keep: rows to keep, instead of those that ``limits`` keep.

    Returns:
        ``DROP``, ``KEEP``, ``CLONE`` or ``SPLIT`` for each row; how many are not dropped; how many
        of them grow. The one place where an edit waits for the device, unless too few rows
        are left.
    """
    choose = classify_native if kernels.has("classify", gradient) else classify_torch
    action, counts = choose(scene, gradient, seen, limits, keep)
    kept, growing = counts.tolist()
    return action, kept, growing


def classify_native(
    scene: Gaussians, gradient: Tensor, seen: Tensor, limits: Limits, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As ``classify_torch``, in one pass over the rows."""
    fields = [value.detach() for value in vars(scene).values()]
    return kernels.ops.classify(fields, gradient, seen, keep, *astuple(limits))


@kernels.fake("classify")
def _(fields: list[Tensor], gradient: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(gradient, dtype=torch.uint8), gradient.new_empty(2, dtype=torch.int64)


def classify_torch(
    scene: Gaussians, gradient: Tensor, seen: Tensor, limits: Limits, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Actions, and the numbers of rows that are kept and that grow."""
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
    """As ``observe_torch``, in one pass."""
    kernels.ops.observe(gradient, seen, grad2d.contiguous(), visible.contiguous())


@kernels.fake("observe")
def _(gradient: Tensor, seen: Tensor, grad2d: Tensor, visible: Tensor) -> None: ...


def observe_torch(
    gradient: Float[Tensor, " n"],
    seen: Int[Tensor, " n"],
    grad2d: Float[Tensor, "b n 2"],
    visible: Bool[Tensor, "b n"],
) -> None:
    """Add, in place, the length of each visible row's gradient in every view, and count the views.

    View by view, in order. A length is computed in double precision and rounded once to single, so
    that it is the same everywhere: torch's square root of doubles is not always correctly rounded.
    """
    for grad, shown in zip(grad2d.double(), visible, strict=True):
        length = (grad[:, 0] * grad[:, 0] + grad[:, 1] * grad[:, 1]).sqrt().float()
        # where(), not a product: what a rasterizer leaves in a hidden row's gradient may be NaN.
        gradient += torch.where(shown, length, 0.0)
        seen += shown
