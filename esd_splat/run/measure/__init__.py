"""How close a finished scene is to the true object, and whether its views differ as they should.

This can be measured only for figurines, because all of their views are known exactly. Of other
scenes, ``judges`` say how many faces they have, and how far they can be trusted.
"""

from esd_splat.run.measure.judges.judged import judged
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
    "judged",
    "measure_scene",
    "measure_views",
    "mixture_eps",
    "pose_entropies",
    "pose_measures",
    "side_shares",
    "view_information",
]
