"""Penalties on the scene itself. They keep Gaussians few and small, and pixels opaque or empty."""

from jaxtyping import Float
from torch import Tensor

from esd_splat.scene.gaussians import Gaussians
from esd_splat.settings.schema import Field, section

SPARSITY_FLOOR = 0.01
"""Smooths ``|alpha|`` at 0, so that empty pixels have no gradient (threestudio's value)."""


@section
class Regularise:
    """Weights of the penalties that are added to the distillation loss. Zero, the default, is off.

    Every term is a mean, so a weight keeps its meaning when the number of Gaussians, views or
    pixels changes. ``o`` is a Gaussian's opacity, ``s`` the standard deviation along one of its
    axes (in world units), and ``alpha`` the opacity of a rendered pixel.
    """

    opacity: float = Field(default=0.0, ge=0)
    """Weight of mean(o). It fades what no view asks for, so that pruning finds it. 3D Gaussian
    splatting as Markov chain Monte Carlo (Kheradmand et al., arXiv:2404.09591) uses 0.01."""
    scale: float = Field(default=0.0, ge=0)
    """Weight of mean(s). It shrinks splats, against needles and against blobs that reach beyond the
    object. The same paper uses 0.01."""
    sparsity: float = Field(default=0.0, ge=0)
    """Weight of mean(sqrt(alpha^2 + 0.01)). It empties the space in front of the background,
    against fog. It is threestudio's lambda_sparsity, which is 10 for ProlificDreamer's NeRF."""
    binary: float = Field(default=0.0, ge=0)
    """Weight of mean(alpha (1 - alpha)). It makes each pixel show either the object or the
    background. It is a bounded stand-in for threestudio's lambda_opaque, the entropy of alpha."""

    def terms(
        self, gaussians: Gaussians, alphas: Float[Tensor, "b h w"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the weighted penalties that are on, by field name, to be added to the loss.

        Args:
            gaussians: the scene, with at least one Gaussian.
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
