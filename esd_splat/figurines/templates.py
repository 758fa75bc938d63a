"""Templates: images of every figurine from given cameras, over any background.

A traced image is affine in the colour of the figurine and in the background. It is ``fixed + w
colour + (1 - alpha) background``, where ``w`` is the light that a pixel gets from coloured parts.
Two traces per view and kind therefore give all colours over all backgrounds, and the squared
distances between images and all templates take only a few matrix products.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.figurines.shapes import COLOURS
from esd_splat.figurines.tracer import trace
from esd_splat.types import Images

CHUNK = 2
"""Views traced at once. The speed is highest if the rays of a batch fit into the CPU's cache."""


@dataclass(frozen=True)
class Templates:
    """Images of some kinds from some views, from which any colour and background follows."""

    kinds: tuple[str, ...]
    fixed: Float[Tensor, "kinds v 3 s s"]
    """Light from the parts that do not depend on the figurine's colour, and black elsewhere."""
    painted: Float[Tensor, "kinds v s s"]
    """Light from the coloured parts, per unit of the figurine's colour."""
    alpha: Float[Tensor, "kinds v s s"]
    """The share of each pixel that the figurine covers."""

    @property
    def size(self) -> int:
        """Width and height in pixels."""
        return self.alpha.shape[-1]

    def over(self, kind: str, colour: str, backgrounds: Float[Tensor, "v 3"]) -> Images:
        """Return the images of a figurine, each over the background of its view."""
        k = self.kinds.index(kind)
        paint = self.painted.new_tensor(COLOURS[colour])[:, None, None]
        behind = (1 - self.alpha[k])[:, None] * backgrounds[:, :, None, None]
        return self.fixed[k] + self.painted[k][:, None] * paint + behind

    def distances(
        self, images: Images, backgrounds: Float[Tensor, "b 3"]
    ) -> Float[Tensor, "b kinds colours v"]:
        """Return the mean squared difference between each image and each template.

        The mean is over channels and pixels. Templates are placed over the background of the image
        that they are compared with, and colours are in the order of ``COLOURS``.

        Args:
            images: of the same size as the templates.
            backgrounds: RGB background of each image.
        """
        # The difference is (image - background) - fixed - w colour + alpha background. When it is
        # squared and summed, every term is an inner product of known planes.
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
        # By rounding, a perfect match can be slightly below zero.
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
        kinds: some of ``KINDS``.
        viewmats: world-to-camera matrices, with OpenCV axes.
        Ks: intrinsics in pixels of the templates.
        size: width and height of the templates in pixels.
        supersample: number of rays along each side of a pixel.

    Raises:
        KeyError: a kind does not exist.
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
    """Compute ``fixed``, ``painted`` and ``alpha`` of one kind from two traces."""
    black = viewmats.new_zeros(len(viewmats), 3)
    red_only = black.clone()
    red_only[:, 0] = 1
    # White and red differ most in green. The second background has no green, so the difference in
    # green gives the share of the paint. The rest of the red channel is due to the background.
    first = trace(kind, "red", viewmats, Ks, size, black, supersample)
    second = trace(kind, "white", viewmats, Ks, size, red_only, supersample)
    red, white = viewmats.new_tensor([COLOURS["red"], COLOURS["white"]])
    painted = (second - first)[:, 1] / (white - red)[1]
    alpha = 1 - (second - first)[:, 0] + painted * (white - red)[0]
    return first - painted[:, None] * red[:, None, None], painted, alpha
