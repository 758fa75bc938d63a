"""An initialiser that scatters Gaussians on a sphere."""

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from esd_splat.init.base import Scatter
from esd_splat.settings.schema import section


@section
class Sphere(Scatter):
    """Gaussians distributed uniformly on the surface of a sphere around the origin."""

    @override
    def places(self, generator: torch.Generator) -> Float[Tensor, "count 3"]:
        return torch.nn.functional.normalize(torch.randn(self.count, 3, generator=generator))
