"""How far a finished scene is from the truth, and whether its views differ as an object's do.

Possible for figurines only, whose every view is known exactly.
"""

from esd_splat.run.measure.looks import side_shares
from esd_splat.run.measure.posterior import pose_measures
from esd_splat.run.measure.scene import (
    MEASURES,
    measure_scene,
    measure_views,
    pose_entropies,
)
from esd_splat.run.measure.scores import mixture_eps, view_information
from esd_splat.run.measure.words import in_words

__all__ = [
    "MEASURES",
    "in_words",
    "measure_scene",
    "measure_views",
    "mixture_eps",
    "pose_entropies",
    "pose_measures",
    "side_shares",
    "view_information",
]
