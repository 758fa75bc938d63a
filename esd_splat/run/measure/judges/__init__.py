"""Judges of scenes whose truth is not known. To add one, write its file and add a line here."""

from esd_splat.plugins import with_installed
from esd_splat.run.measure.judges.agreement import (
    UNMEASURED,
    Agreement,
    agreement,
    colours,
    surfaces,
)
from esd_splat.run.measure.judges.base import SIDES, Judge, JudgeConfig
from esd_splat.run.measure.judges.surface import normal_pictures
from esd_splat.run.measure.judges.teacher import TeacherJudge
from esd_splat.run.measure.judges.verdict import judge_views
from esd_splat.run.measure.judges.vlm import VisionLanguage

JUDGES: dict[str, type[JudgeConfig]] = with_installed(
    "judges", {"teacher": TeacherJudge, "vlm": VisionLanguage}
)

__all__ = [
    "JUDGES",
    "SIDES",
    "UNMEASURED",
    "Agreement",
    "Judge",
    "JudgeConfig",
    "TeacherJudge",
    "VisionLanguage",
    "agreement",
    "colours",
    "judge_views",
    "normal_pictures",
    "surfaces",
]
