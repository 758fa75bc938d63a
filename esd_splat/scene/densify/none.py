"""The strategy that does nothing."""

from esd_splat.scene.densify.base import Densifier
from esd_splat.settings.schema import section


@section
class NoDensify(Densifier):
    """Keeps the initial Gaussians: none is added or removed."""
