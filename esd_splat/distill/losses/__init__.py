"""Score-distillation losses. To add one, write its file and add a line here."""

from esd_splat.distill.losses.asd import Asd
from esd_splat.distill.losses.base import PREDICTIONS, ScoreDistillation, surrogate_loss
from esd_splat.distill.losses.clamp import Clamp
from esd_splat.distill.losses.csd import Csd
from esd_splat.distill.losses.esd import Esd
from esd_splat.distill.losses.inversion import Inversion
from esd_splat.distill.losses.ism import Ism
from esd_splat.distill.losses.nfsd import Nfsd
from esd_splat.distill.losses.regularise import Regularise
from esd_splat.distill.losses.sdi import Sdi
from esd_splat.distill.losses.sds import Sds
from esd_splat.distill.losses.vsd import Vsd
from esd_splat.plugins import with_installed

LOSSES: dict[str, type[ScoreDistillation]] = with_installed(
    "losses",
    {
        "asd": Asd,
        "csd": Csd,
        "esd": Esd,
        "ism": Ism,
        "nfsd": Nfsd,
        "sdi": Sdi,
        "sds": Sds,
        "vsd": Vsd,
    },
)

__all__ = [
    "LOSSES",
    "PREDICTIONS",
    "Asd",
    "Clamp",
    "Csd",
    "Esd",
    "Inversion",
    "Ism",
    "Nfsd",
    "Regularise",
    "ScoreDistillation",
    "Sdi",
    "Sds",
    "Vsd",
    "surrogate_loss",
]
