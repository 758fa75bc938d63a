"""How the camera enters the network: as a term that is added to its time embedding."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

HARMONICS = 4
"""How many times a feature of ``PoseEmbedding`` can change sign twice around the object."""


class MatrixEmbedding(nn.Module):
    """A network of the 16 values of the camera-to-world matrix. Its result is zero until trained.

    Source:
        ProlificDreamer (arXiv:2305.16213), whose last layer is not zero at first.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.zeros_(self.layers[2].weight)  # pyright: ignore[reportArgumentType]
        nn.init.zeros_(self.layers[2].bias)  # pyright: ignore[reportArgumentType]

    def forward(
        self, c2w: Float[Tensor, "b 4 4"], hidden: Bool[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        """Embed camera-to-world matrices. A hidden camera is embedded as a vector of zeros."""
        return self.layers(c2w.flatten(1) * ~hidden[:, None])


class PoseEmbedding(nn.Module):
    """A network of smooth functions of where the camera is. Its result is not zero at first.

    It assumes that all cameras look at the origin. A hidden camera is all zeros, while of a shown
    one at least the constant is 1.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        features = 2 * HARMONICS + 4
        self.layers = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    @staticmethod
    def features(c2w: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b features"]:
        """Return 1, the logarithm of the distance, and polynomials of the direction.

        Let ``(x, y, z)`` be the direction of the camera from the origin, of length 1. The
        polynomials are ``y``, ``y^2``, and the real and imaginary parts of ``(z + i x)^k`` for
        ``k`` from 1 to ``HARMONICS``. For a camera on the horizon the latter are the cosine and
        sine of ``k`` times its azimuth.
        """
        eyes = c2w[:, :3, 3]
        distance = eyes.norm(dim=1)
        x, y, z = (eyes / distance[:, None]).unbind(1)
        turned = torch.complex(z, x)
        powers = [turned**k for k in range(1, HARMONICS + 1)]
        around = [part for power in powers for part in (power.real, power.imag)]
        return torch.stack([torch.ones_like(y), distance.log(), y, y**2, *around], dim=1)

    def forward(
        self, c2w: Float[Tensor, "b 4 4"], hidden: Bool[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        """Embed camera-to-world matrices, or zeros in place of the features of a hidden camera."""
        return self.layers(self.features(c2w) * ~hidden[:, None])


CAMERA_EMBEDDINGS = {"matrix": MatrixEmbedding, "pose": PoseEmbedding}
