"""Penalties on the scene itself: they keep splats few, small and decided, and see no teacher."""

import math
from dataclasses import dataclass, fields

from jaxtyping import Float
from torch import Tensor

from esd_splat.errors import check
from esd_splat.scene.gaussians import Gaussians

SPARSITY_FLOOR = 0.01
"""Rounds ``|alpha|`` off at 0, so that empty pixels have no gradient (threestudio's value)."""


@dataclass(frozen=True)
class Regularise:
    """Weights of the penalties added to the distillation loss; zero, the default, is off.

    Every term is a mean, so a weight keeps its meaning when the number of Gaussians, views or
    pixels changes. ``o`` is a Gaussian's opacity, ``s`` a standard deviation along one of its
    axes (world units), ``alpha`` the opacity of a rendered pixel.
    """

    opacity: float = 0.0
    """Weight of mean(o), at least 0: fades what no view asks for, so that pruning finds it. As in
    3DGS as Markov chain Monte Carlo (Kheradmand et al., arXiv:2404.09591), which uses 0.01."""
    scale: float = 0.0
    """Weight of mean(s), at least 0: shrinks splats, against needles and blobs beyond the object.
    As in the same paper, which uses 0.01."""
    sparsity: float = 0.0
    """Weight of mean(sqrt(alpha^2 + 0.01)), at least 0: empties space in front of the background,
    against fog. As threestudio's lambda_sparsity (10 for ProlificDreamer's NeRF)."""
    binary: float = 0.0
    """Weight of mean(alpha (1 - alpha)), at least 0: makes pixels either object or background. A
    bounded stand-in for threestudio's lambda_opaque, which is the entropy of alpha."""

    def __post_init__(self) -> None:
        weights = {f.name: getattr(self, f.name) for f in fields(self)}
        what = "at least 0 and finite"
        check(self, {name: (0 <= weight < math.inf, what) for name, weight in weights.items()})

    def terms(
        self, gaussians: Gaussians, alphas: Float[Tensor, "b h w"]
    ) -> dict[str, Float[Tensor, ""]]:
        """The weighted penalties that are on, by field name, each to be added to the loss.

        Args:
            gaussians: the scene; at least one Gaussian.
            alphas: rendered opacity of every pixel of every view, in [0, 1].
        """
        penalties = {
            "opacity": lambda: gaussians.opacity_logits.sigmoid().mean(),
            "scale": lambda: gaussians.log_scales.exp().mean(),
            "sparsity": lambda: (alphas**2 + SPARSITY_FLOOR).sqrt().mean(),
            "binary": lambda: (alphas * (1 - alphas)).mean(),
        }
        weights = {name: getattr(self, name) for name in penalties}
        return {name: w * penalties[name]() for name, w in weights.items() if w > 0}
