"""An initialiser that scatters Gaussians in a ball."""

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from esd_splat.init.base import Scatter
from esd_splat.settings.schema import section


@section
class Ball(Scatter):
    """Gaussians distributed uniformly in the volume of a ball around the origin."""

    @override
    def places(self, generator: torch.Generator) -> Float[Tensor, "count 3"]:
        directions = torch.randn(self.count, 3, generator=generator)
        # The fraction of the volume within radius r is r^3, so r is the cube root of a uniform
        # number.
        radii = torch.rand(self.count, 1, generator=generator) ** (1 / 3)
        return radii * torch.nn.functional.normalize(directions)
