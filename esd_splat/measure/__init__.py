"""How far a finished scene is from the truth, and whether its views differ as an object's do.

Possible for figurines only, whose every view is known exactly.
"""

from esd_splat.measure.posterior import pose_measures
from esd_splat.measure.scene import Measure, measure_scene, measure_views

__all__ = ["Measure", "measure_scene", "measure_views", "pose_measures"]
