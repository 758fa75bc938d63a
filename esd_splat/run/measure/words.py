"""The measures of a scene, summarised in a sentence."""

from collections.abc import Mapping
from typing import Any

from esd_splat.run.measure.faces import JANUS_SHARE
from esd_splat.run.measure.judges import Agreement

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
"""Words for small numbers of faces."""
NOT_MEASURED = "not measured: the truth is known only for figurines made by a teacher of figurines"

NOT_JUDGED = "with measure.judge=true, the teacher judges the scene"


def in_words(
    measures: Mapping[str, Any] | None, views: int, judged: Mapping[str, Any] | None = None
) -> str:
    """Describe the faces, the recognised views and the PSNR of a scene.

    Args:
        measures: what ``measure_views`` returned, ``None`` or empty if nothing was measured.
        views: the number of views that were measured.
        judged: what the function ``judged`` returned, for a scene that was not measured.

    Example:
        >>> found = {"faces": 2, "front_share": 1.5, "recognised": 0.75, "psnr_aligned": 21.04}
        >>> in_words(found, views=16)
        'two faces, recognised from 12 of 16 sides, 21.0 dB from the truth'
    """
    if not measures:
        return _judged_in_words(judged) if judged else f"{NOT_MEASURED}; {NOT_JUDGED}"
    faces, share = measures["faces"], measures["front_share"]
    number = NUMBERS[faces] if faces < len(NUMBERS) else str(faces)
    face = f"{number} {'face' if faces <= 1 else 'faces'}"
    if faces == 1 and share > JANUS_SHARE:
        face += f", {share:.1f} times as wide as it should be"
    known = round(measures["recognised"] * views)
    sides = {0: "no side", views: f"all {views} sides"}.get(known, f"{known} of {views} sides")
    return f"{face}, recognised from {sides}, {measures['psnr_aligned']:.1f} dB from the truth"


def _judged_in_words(judged: Mapping[str, Any]) -> str:
    judge = judged["judge"]
    if "problem" in judged:
        return f"not judged by the {judge}: {judged['problem']}"
    known = judged["agreement"]
    return (
        f"{judged['verdict']}, as judged by the {judge} "
        f"({Agreement(known['confusion'], measured=known['measured'])})"
    )
