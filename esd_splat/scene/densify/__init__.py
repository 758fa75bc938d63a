"""Densification strategies. To add one, write its file, then add a line here."""

from esd_splat.plugins import with_installed
from esd_splat.scene.densify.base import Densifier, Edit, Importance, Rows, State
from esd_splat.scene.densify.clone_split import CloneSplit
from esd_splat.scene.densify.mcmc import Mcmc
from esd_splat.scene.densify.none import NoDensify

DENSIFIERS: dict[str, type[Densifier]] = with_installed(
    "densifiers",
    {
        "clone_split": CloneSplit,
        "mcmc": Mcmc,
        "none": NoDensify,
    },
)

__all__ = [
    "DENSIFIERS",
    "CloneSplit",
    "Densifier",
    "Edit",
    "Importance",
    "Mcmc",
    "NoDensify",
    "Rows",
    "State",
]
