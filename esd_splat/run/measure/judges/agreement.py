"""How far a judge agrees with the truth, on pictures of figurines whose side is known."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from esd_splat.errors import PromptError
from esd_splat.figurines import COLOURS, KINDS, caption, trace, trace_normals
from esd_splat.run.measure.faces import FRONT_DEG
from esd_splat.run.measure.judges.base import SIDES, Judge
from esd_splat.run.measure.judges.surface import normal_pictures
from esd_splat.scene.cameras import Cameras, Orbit, wrap_deg
from esd_splat.types import Images

TRUSTED = 0.6
"""The kappa from which a judge is trusted."""
PICTURES = 48
"""The usual number of pictures: six of each kind."""

Confusion = Sequence[Sequence[int]]
Photographer = Callable[[str, str, Cameras, Float[Tensor, "b 3"]], Images]
"""Takes pictures of a figurine: from its kind, its colour, cameras and backgrounds."""


@dataclass(frozen=True)
class Agreement:
    """How often a judge named each side, and which side was the right one."""

    confusion: Confusion = ((0, 0, 0), (0, 0, 0), (0, 0, 0))
    """Numbers of pictures. Rows are the true side, columns that of the judge, both as ``SIDES``."""
    measured: bool = True

    @property
    def pictures(self) -> int:
        """How many pictures the judge was shown."""
        return sum(map(sum, self.confusion))

    @property
    def kappa(self) -> float:
        """See the function ``kappa``."""
        return kappa(self.confusion)

    @property
    def trusted(self) -> bool:
        """Whether the agreement was measured, and kappa is at least 0.6."""
        return self.measured and self.kappa >= TRUSTED

    def summary(self) -> dict[str, Any]:
        """Return everything as values that JSON can hold."""
        return {
            "measured": self.measured,
            "trusted": self.trusted,
            "kappa": round(self.kappa, 4) if self.measured else None,
            "pictures": self.pictures,
            "confusion": [list(row) for row in self.confusion],
        }

    def __str__(self) -> str:
        """Say in a few words whether the judge can be trusted.

        >>> str(Agreement(((6, 0, 0), (0, 6, 0), (0, 0, 6)))), str(UNMEASURED)
        ('kappa 1.00 on 18 pictures', 'agreement not measured')
        """
        if not self.measured:
            return "agreement not measured"
        found = f"kappa {self.kappa:.2f} on {self.pictures} pictures"
        return found if self.trusted else f"{found}: not to be trusted"


UNMEASURED = Agreement(measured=False)
"""Of a judge that nobody has asked about pictures whose side is known."""


def colours(kind: str, colour: str, cameras: Cameras, backgrounds: Float[Tensor, "b 3"]) -> Images:
    """Take ordinary pictures, with the paint of the figurine."""
    return trace(
        kind, colour, cameras.viewmats, cameras.Ks, cameras.width, backgrounds, _rays(cameras.width)
    )


def surfaces(kind: str, colour: str, cameras: Cameras, backgrounds: Float[Tensor, "b 3"]) -> Images:
    """Take pictures of the normals, as ``normal_pictures`` draws them, without any paint."""
    size = cameras.width
    return normal_pictures(*trace_normals(kind, cameras.viewmats, cameras.Ks, size, _rays(size)))


def agreement(
    judge: Judge,
    seed: int = 0,
    *,
    pictures: int = PICTURES,
    photographer: Photographer = colours,
) -> Agreement:
    """Show a judge pictures of figurines at its own size, and count how often it is right.

    Every kind is seen from equal steps of azimuth with a random start, at random elevations and
    over random greys, in a random colour. As around any object, half of the pictures show a side.
    Figurines for which the judge has no words are left out.

    Args:
        judge: the judge. Its agreement with another teacher or at another size is unknown.
        seed: determines pictures and noises.
        pictures: about how many pictures to show: a multiple of the number of kinds.
        photographer: takes the pictures: ``colours``, or ``surfaces`` for a judge that will see
            ``normal_pictures``. Agreement on the one says nothing about the other.

    Raises:
        PromptError: the judge has words for none of the figurines, or not for the sides.
    """
    generator = torch.Generator().manual_seed(seed)
    each = max(1, round(pictures / len(KINDS)))
    orbit = Orbit()
    low, high = orbit.elevation
    confusion = torch.zeros(len(SIDES), len(SIDES), dtype=torch.long)
    for kind in KINDS:
        u = torch.rand(2, each, generator=generator, dtype=torch.float64)
        azimuth = (torch.arange(each) + u[0, 0]) * (360 / each)
        greys = torch.rand(each, 1, generator=generator).expand(-1, 3)
        order = torch.randperm(len(COLOURS), generator=generator).tolist()
        if (colour := _known_colour(judge, kind, order)) is None:
            continue
        cameras = orbit.at(azimuth, low + (high - low) * u[1], judge.size)
        images = torch.cat(
            [
                photographer(kind, colour, cameras[one], greys[one]).float()
                for one in torch.arange(each).split(1)
            ]
        )
        found = judge.sides(images, caption(kind, colour), generator).argmax(1)
        confusion += confused(true_sides(azimuth), found, len(SIDES))
    if not confusion.any():
        judge.check(caption(KINDS[0], next(iter(COLOURS))))  # says why
    return Agreement(tuple(tuple(row) for row in confusion.tolist()))


def _known_colour(judge: Judge, kind: str, order: Sequence[int]) -> str | None:
    """Return the first colour, in this order, in which the judge knows a kind of figurine."""
    for index in order:
        with suppress(PromptError):
            judge.check(caption(kind, colour := list(COLOURS)[index]))
            return colour
    return None


def true_sides(azimuth_deg: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Return the index into ``SIDES``: 90 degrees each are the front and the back."""
    off = wrap_deg(azimuth_deg).abs()
    return 1 - (off <= FRONT_DEG).long() + (off >= 180 - FRONT_DEG).long()


def confused(
    truth: Int[Tensor, " b"], found: Int[Tensor, " b"], classes: int
) -> Int[Tensor, "classes classes"]:
    """Count the pairs of a true class and a found one. Rows are the truth."""
    return torch.bincount(truth * classes + found, minlength=classes**2).view(classes, classes)


def kappa(confusion: Confusion) -> float:
    """Return Cohen's kappa: the share of agreements above chance, relative to the most possible.

    It is 1 for a judge that is always right, about 0 for one that guesses, and 0 by convention if
    truth and judge know one and the same class only.

    Example:
        >>> round(kappa(((20, 5), (10, 15))), 9), kappa(((7, 0), (0, 0)))
        (0.4, 0.0)
    """
    counts = torch.tensor(confusion, dtype=torch.float64)
    total = float(counts.sum())
    if total == 0:
        return 0.0
    right = float(counts.trace()) / total
    by_chance = float(counts.sum(0) @ counts.sum(1)) / total**2
    return (right - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0


def _rays(size: int) -> int:
    """Rays along each side of a pixel: fewer for large pictures, whose pixels are fine anyway."""
    return 2 if size < 256 else 1
