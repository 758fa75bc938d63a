"""Pictures of every figurine from given cameras, over any background, and distances to them.

A traced picture is affine in the figurine's colour and in the background: with ``w`` the light a
pixel gets from coloured parts, it is ``fixed + w colour + (1 - alpha) background``. So two traces
per view and kind give all colours over all backgrounds, and the squared distance of images to all
of those pictures is a handful of matrix products.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.figurines.shapes import COLOURS
from esd_splat.figurines.tracer import trace
from esd_splat.types import Images

CHUNK = 2
"""Views traced at once: fastest when the rays of a batch stay in the processor's cache."""


@dataclass(frozen=True)
class Templates:
    """Background-free pictures of some kinds, in all colours, from some views."""

    kinds: tuple[str, ...]
    fixed: Float[Tensor, "kinds v 3 s s"]
    """Light from the parts that look the same in every colour, black elsewhere."""
    painted: Float[Tensor, "kinds v s s"]
    """Light from the coloured parts per unit of the figurine's colour."""
    alpha: Float[Tensor, "kinds v s s"]
    """Share of the pixel that the figurine covers."""

    @property
    def size(self) -> int:
        """Width and height, pixels."""
        return self.alpha.shape[-1]

    def over(self, kind: str, colour: str, backgrounds: Float[Tensor, "v 3"]) -> Images:
        """One figurine from each view, over that view's background."""
        k = self.kinds.index(kind)
        paint = self.painted.new_tensor(COLOURS[colour])[:, None, None]
        behind = (1 - self.alpha[k])[:, None] * backgrounds[:, :, None, None]
        return self.fixed[k] + self.painted[k][:, None] * paint + behind

    def distances(
        self, images: Images, backgrounds: Float[Tensor, "b 3"]
    ) -> Float[Tensor, "b kinds colours v"]:
        """Mean squared difference, over channels and pixels, of each image to each template.

        Colours are in the order of ``COLOURS``. An image is compared over its own background.

        Args:
            images: of this bank's size.
            backgrounds: RGB behind each image.
        """
        # Of difference = (image - background) - fixed - w colour + alpha background, squared and
        # summed, every term is an inner product of known planes.
        paint = torch.tensor(list(COLOURS.values()), dtype=images.dtype)
        fixed, w, alpha = self.fixed.flatten(3), self.painted.flatten(2), self.alpha.flatten(2)
        rest = (images - backgrounds[:, :, None, None]).flatten(2)
        rest_w = torch.einsum("bcp,kvp->bkvc", rest, w)
        rest_alpha = torch.einsum("bcp,kvp,bc->bkv", rest, alpha, backgrounds)
        rest_fixed = torch.einsum("bcp,kvcp->bkv", rest, fixed)
        fixed_w = torch.einsum("kvcp,kvp->kvc", fixed, w)
        fixed_alpha = torch.einsum("kvcp,kvp->kvc", fixed, alpha)
        w_alpha = (w * alpha).sum(-1)

        plain = rest.square().sum((1, 2))[:, None, None] + fixed.square().sum((2, 3))
        plain = plain + alpha.square().sum(-1) * backgrounds.square().sum(-1)[:, None, None]
        plain = plain - 2 * rest_fixed + 2 * rest_alpha
        plain = plain - 2 * torch.einsum("kvc,bc->bkv", fixed_alpha, backgrounds)
        of_paint = fixed_w - rest_w - w_alpha[..., None] * backgrounds[:, None, None]
        total = plain[:, :, None] + 2 * torch.einsum("bkvc,nc->bknv", of_paint, paint)
        total = total + w.square().sum(-1)[:, None] * paint.square().sum(-1)[:, None]
        # Rounding may leave a perfect match a hair below zero.
        return total.clamp(min=0) / (3 * self.size**2)


def make_templates(
    kinds: tuple[str, ...],
    viewmats: Float[Tensor, "v 4 4"],
    Ks: Float[Tensor, "v 3 3"],
    size: int,
    supersample: int = 2,
) -> Templates:
    """Trace ``kinds`` from each camera.

    Args:
        kinds: of ``KINDS``.
        viewmats: world-to-camera, OpenCV axes.
        Ks: intrinsics in pixels of the templates.
        size: width and height, pixels.
        supersample: rays per pixel side.

    Raises:
        KeyError: no such kind.
    """
    layers = [
        _layers(kind, some_views, some_Ks, size, supersample)
        for kind in kinds
        for some_views, some_Ks in zip(viewmats.split(CHUNK), Ks.split(CHUNK), strict=True)
    ]
    fixed, painted, alpha = (
        torch.cat(parts).unflatten(0, (len(kinds), len(viewmats)))
        for parts in zip(*layers, strict=True)
    )
    return Templates(kinds, fixed, painted, alpha)


def _layers(
    kind: str, viewmats: Tensor, Ks: Tensor, size: int, supersample: int
) -> tuple[Tensor, Tensor, Tensor]:
    """``fixed``, ``painted`` and ``alpha`` of one kind, from two traces."""
    black = viewmats.new_zeros(len(viewmats), 3)
    red_only = black.clone()
    red_only[:, 0] = 1
    # White and red differ most in green. The second background has no green, so that green tells
    # the paint's share; what is left in the red channel is the background's.
    first = trace(kind, "red", viewmats, Ks, size, black, supersample)
    second = trace(kind, "white", viewmats, Ks, size, red_only, supersample)
    red, white = viewmats.new_tensor([COLOURS["red"], COLOURS["white"]])
    painted = (second - first)[:, 1] / (white - red)[1]
    alpha = 1 - (second - first)[:, 0] + painted * (white - red)[0]
    return first - painted[:, None] * red[:, None, None], painted, alpha
