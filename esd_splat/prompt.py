"""Words, and which words for which view. Knows angles; nothing of embeddings or networks."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

VIEWS = ("front", "side", "back", "overhead")
"""The view words, in the order of ``ViewPrompts.indices``."""


@dataclass(frozen=True)
class ViewPrompts:
    """Tells the teacher which side it is looking at, as threestudio's view-dependent prompts do."""

    enabled: bool = False
    """Whether the teacher's prompt names the view. The particle never sees view words."""
    front: float = 45.0
    """Views closer than this to azimuth 0 are "front view", degrees in [0, 180]."""
    back: float = 45.0
    """Views closer than this to azimuth 180 are "back view", degrees in [0, 180]."""
    overhead: float = 60.0
    """Views from above this elevation are "overhead view", degrees in [0, 90]."""

    def __post_init__(self) -> None:
        limits = {"front": 180.0, "back": 180.0, "overhead": 90.0}
        problems = [
            f"{name}: must be in [0, {most:g}] degrees, got {getattr(self, name):g}"
            for name, most in limits.items()
            if not 0 <= getattr(self, name) <= most
        ]
        if problems:
            raise ValueError("\n".join(problems))

    def texts(self, prompt: str) -> list[str]:
        """What the teacher is told, one text per entry of ``VIEWS``; the same four if disabled."""
        if not self.enabled:
            return [prompt] * len(VIEWS)
        return [f"{prompt}, {view} view" for view in VIEWS]

    def indices(
        self, azimuth_deg: Float[Tensor, " b"], elevation_deg: Float[Tensor, " b"]
    ) -> Int[Tensor, " b"]:
        """Index into ``VIEWS`` of each camera; overhead wins over back, back over front."""
        turned = ((azimuth_deg + 180) % 360 - 180).abs()
        index = turned.new_ones(turned.shape).long()
        index[turned < self.front] = VIEWS.index("front")
        index[turned > 180 - self.back] = VIEWS.index("back")
        index[elevation_deg > self.overhead] = VIEWS.index("overhead")
        return index
