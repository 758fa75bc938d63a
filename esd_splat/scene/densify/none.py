"""The scene keeps the Gaussians it began with."""

from dataclasses import dataclass

from esd_splat.scene.densify.base import Densifier


@dataclass(frozen=True)
class NoDensify(Densifier):
    """No Gaussian is ever added or removed."""
