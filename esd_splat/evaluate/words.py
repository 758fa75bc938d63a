"""An evaluation in lines of text."""

from collections.abc import Mapping
from typing import Any

from esd_splat.evaluate.evaluation import Subject
from esd_splat.evaluate.table import UNTRUSTED
from esd_splat.run.measure import in_words
from esd_splat.run.measure.judges import SIDES, Agreement, Judge


def of_judge(judge: Judge, agreeing: Mapping[str, Agreement]) -> list[str]:
    """Return how far a judge agrees with the truth, and its confusions, in lines.

    Args:
        judge: the judge.
        agreeing: its agreement on each of ``PICTURES``.
    """
    lines = [f"judge: {judge.name}" + (f" ({judge.note})" if judge.note else "")]
    for pictures, found in agreeing.items():
        lines.append(f"  by {pictures}: {found}")
        if found.measured:
            for side, row in zip(SIDES, found.confusion, strict=True):
                counts = ", ".join(f"{n} {said}" for n, said in zip(row, SIDES, strict=True))
                lines.append(f"    {side} was taken for: {counts}")
    return lines


def in_lines(result: Mapping[str, Any], subject: Subject) -> list[str]:
    """Return the evaluation of a run in lines.

    Args:
        result: what ``evaluate`` returned, with the ``judge``.
        subject: what was evaluated.
    """
    truth, judged, front = result["truth"], result["judged"], result["front_deg"]
    found = {"truth": in_words(truth, subject.config.measure.views) if truth else "not known"}
    if judged:
        agreement = result["judge"]["agreement"]
        found["judged"] = ", ".join(
            f"{said['verdict']} by {on}" + ("" if agreement[on]["trusted"] else UNTRUSTED)
            for on, said in judged.items()
        )
    fronts = [] if front is None else [f"at {front:.0f} degrees by the judge"]
    if truth:
        fronts.append(f"at {truth['rotation_deg']:.0f} degrees by the truth")
    found["front"] = ", ".join(fronts) or "not found"
    found["consistency"] = (
        f"colours of neighbouring views differ by {result['consistency']:.4f} on average, over "
        f"{100 * result['shared']:.0f} % of their pixels"
        if result["consistency"] is not None
        else "neighbouring views share no surface"
    )
    found["floaters"] = f"{100 * result['floaters']:.1f} % of the light is from floaters and fog"
    title = f'{result["run"]}: "{result["prompt"]}"'
    return [title, *(f"  {name:12} {text}" for name, text in found.items())]
