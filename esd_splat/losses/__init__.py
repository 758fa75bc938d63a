"""Score-distillation objectives. To add one: write its file, then add its line here."""

from esd_splat.losses.base import PREDICTIONS, ScoreDistillation, surrogate_loss
from esd_splat.losses.clamp import Clamp
from esd_splat.losses.esd import Esd
from esd_splat.losses.esd_moving import HeldEsd, ScheduledEsd
from esd_splat.losses.regularise import Regularise
from esd_splat.losses.sds import Sds
from esd_splat.losses.vsd import Vsd

LOSSES: dict[str, type[ScoreDistillation]] = {
    "esd": Esd,
    "esd_held": HeldEsd,
    "esd_scheduled": ScheduledEsd,
    "sds": Sds,
    "vsd": Vsd,
}

__all__ = [
    "LOSSES",
    "PREDICTIONS",
    "Clamp",
    "Esd",
    "HeldEsd",
    "Regularise",
    "ScheduledEsd",
    "ScoreDistillation",
    "Sds",
    "Vsd",
    "surrogate_loss",
]
