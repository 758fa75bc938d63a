"""Initialisers, which build the first scene. To add one, write its file, then add a line here."""

from esd_splat.init.ball import Ball
from esd_splat.init.base import Initialiser
from esd_splat.init.ply import FromPly
from esd_splat.init.sphere import Sphere
from esd_splat.plugins import with_installed

INITIALISERS: dict[str, type[Initialiser]] = with_installed(
    "initialisers",
    {
        "ball": Ball,
        "ply": FromPly,
        "sphere": Sphere,
    },
)

__all__ = ["INITIALISERS", "Ball", "Initialiser"]
