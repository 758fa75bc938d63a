"""Pictures of a surface without its paint, so that a judge cannot take a painted face for shape."""

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.run.measure.truth import BACKGROUND
from esd_splat.types import Images


def normal_pictures(normals: Float[Tensor, "b 3 h w"], alphas: Float[Tensor, "b h w"]) -> Images:
    """Return the normals as colours, ``(n + 1) / 2``, over a grey background.

    Args:
        normals: normals in world space. They need not have unit length, and may be zero where
            there is no surface.
        alphas: the share of each pixel that the surface covers, from 0 to 1.

    Returns:
        Images in [0, 1]. A surface that faces x is reddish, one that faces y is greenish, and one
        that faces the front, z, is bluish.
    """
    colours = (torch.nn.functional.normalize(normals, dim=1) + 1) / 2
    cover = alphas[:, None].clamp(0, 1)
    return (colours * cover + BACKGROUND * (1 - cover)).clamp(0, 1)
