"""Judges of scenes whose truth is not known. To add one, write its file and add a line here."""

from esd_splat.plugins import with_installed
from esd_splat.run.measure.judges.base import SIDES, Judge, JudgeConfig

JUDGES: dict[str, type[JudgeConfig]] = with_installed("judges", {})

__all__ = ["JUDGES", "SIDES", "Judge", "JudgeConfig"]
