"""The scene keeps the Gaussians it began with."""

from esd_splat.scene.densify.base import Densifier
from esd_splat.settings.schema import section


@section
class NoDensify(Densifier):
    """No Gaussian is ever added or removed."""
