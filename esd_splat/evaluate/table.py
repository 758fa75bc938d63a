"""The table over several runs: how many have each kind of the Janus problem, by setting."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esd_splat.run.measure.faces import VERDICTS
from esd_splat.run.measure.intervals import exact_interval
from esd_splat.show.pages import NOTHING, Run, differing

SAME_SETTING = (
    *("prompt", "seed", "version", "device", "backend", "memory."),
    *("checkpoint_every", "view", "log.", "export."),
)
"""Prefixes of keys that may differ between runs of one setting."""
LOST = 0.5
"""The share of a prompt's runs that must have the Janus problem for the prompt to be lost. Runs of
one prompt that differ by their seed alone fail together, so prompts are counted and not runs."""

UNTRUSTED = " (not to be trusted)"
"""Follows the name of a judge whose agreement with the truth is unknown or too low."""


@dataclass(frozen=True)
class Row:
    """The runs of one setting, as one source of verdicts sees them."""

    setting: str
    """Its number in the legend, see ``settings_of``."""
    source: str
    """``truth``, or the judge and the pictures that it was shown."""
    counts: dict[str, int]
    """The number of runs with each of ``VERDICTS``."""
    lost: dict[str, bool]
    """Whether each prompt is lost."""

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the share of prompts that are lost."""
        return exact_interval(sum(self.lost.values()), len(self.lost))

    @property
    def cells(self) -> list[str]:
        """The row as text, in the order of ``HEADINGS``."""
        low, high = self.interval
        counts = [str(self.counts[name]) for name in VERDICTS]
        lost = f"{sum(self.lost.values())} of {len(self.lost)}"
        runs = str(sum(self.counts.values()))
        return [self.setting, self.source, runs, *counts, lost, f"{low:.3f} to {high:.3f}"]


HEADINGS = ["setting", "by", "runs", *VERDICTS, "prompts lost", "95 % interval"]


def settings_of(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """Return the number of each run's setting, such as ``(2)``, and a legend of the settings.

    A line of the legend has the keys that differ between the runs, with the values of one setting.
    """
    keys = {k: v for k, v in differing(runs).items() if not k.startswith(SAME_SETTING)}
    texts = [
        " ".join(f"{key}={values[row]}" for key, values in keys.items() if values[row] != NOTHING)
        for row in range(len(runs))
    ]
    numbers = {text: f"({k})" for k, text in enumerate(dict.fromkeys(texts), 1)}
    legend = [f"{number} {text}" for text, number in numbers.items()] if any(texts) else []
    return [numbers[text] for text in texts], legend


def verdicts(result: Mapping[str, Any]) -> dict[str, str]:
    """Return every verdict on a run, by its source.

    Args:
        result: what ``evaluate`` returned, with the ``judge``.
    """
    found = {"truth": result["truth"]["verdict"]} if result["truth"] else {}
    for pictures, said in result["judged"].items():
        trusted = result["judge"]["agreement"][pictures]["trusted"]
        source = f"{said['judge']}, {pictures}" + ("" if trusted else UNTRUSTED)
        found[source] = said["verdict"]
    return found


def tabulate(
    settings: Sequence[str], prompts: Sequence[str], said: Sequence[Mapping[str, str]]
) -> list[Row]:
    """Count the verdicts on each setting. A source has a row for the runs that it has a verdict on.

    Args:
        settings: the setting of each run.
        prompts: the prompt of each run.
        said: the verdicts on each run, by source.
    """
    rows = []
    for source in dict.fromkeys(source for found in said for source in found):
        for setting in dict.fromkeys(settings):
            counts: dict[str, int] = {name: 0 for name in VERDICTS}
            tried: dict[str, list[bool]] = {}
            for own, prompt, found in zip(settings, prompts, said, strict=True):
                if own == setting and source in found:
                    counts[found[source]] += 1
                    tried.setdefault(prompt, []).append(found[source] != VERDICTS[0])
            if tried:
                lost = {prompt: sum(bad) >= LOST * len(bad) for prompt, bad in tried.items()}
                rows.append(Row(setting, source, counts, lost))
    return rows


def comparisons(rows: Sequence[Row]) -> list[str]:
    """Compare each setting with the first one, prompt by prompt, in a line each.

    The test is the exact sign test on the prompts that only one of the two loses (McNemar's exact
    test). Prompts that one of the settings was not run on are left out.
    """
    lines = []
    firsts: dict[str, Row] = {}
    for row in rows:
        first = firsts.setdefault(row.source, row)
        shared = [prompt for prompt in first.lost if prompt in row.lost]
        if row is first or not shared:
            continue
        before = sum(first.lost[p] and not row.lost[p] for p in shared)
        after = sum(row.lost[p] and not first.lost[p] for p in shared)
        lines.append(
            f"{first.setting} and {row.setting} by {row.source}, prompts in common: {len(shared)}, "
            f"lost by {first.setting} only: {before}, by {row.setting} only: {after}, exact p = "
            f"{sign_test(before, after):.2g}"
        )
    return lines


def sign_test(first: int, second: int) -> float:
    """Return the two-sided probability of a split at least as uneven, if both ways are as likely.

    Example:
        >>> sign_test(0, 8), sign_test(3, 3)
        (0.0078125, 1.0)
    """
    total, fewer = first + second, min(first, second)
    return min(1.0, 2 * sum(math.comb(total, k) for k in range(fewer + 1)) / 2**total)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown whose columns are aligned. The first row holds the headings."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
