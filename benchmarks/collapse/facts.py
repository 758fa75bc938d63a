"""What the rows say, for the sentences of the page: ``text.md`` calls these by name."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import mean

from benchmarks.collapse.experiments import EXPERIMENTS
from benchmarks.collapse.runs import Row
from benchmarks.collapse.stats import Share, Signs, by_prompt, share, signs
from esd_splat.run.measure import MEASURES
from esd_splat.run.measure.faces import VERDICTS, verdict

LOST = VERDICTS[1:]
"""The ways in which a run can be lost."""
NOT_RUN = "(not run)"
WORKERS = 2
"""Processes that the times on the page are given for."""


def verdict_of(row: Row) -> str:
    """Which of ``VERDICTS`` a run ended with. One that diverged has no face."""
    return verdict(row["faces"], row["front_share"])


def lost(row: Row) -> bool:
    """Whether a run ended with anything but one face."""
    return verdict_of(row) in LOST


def prompts_lost(rows: Iterable[Row]) -> Share:
    """How many prompts lost at least half of their runs."""
    return share(by_prompt(({**row, "lost": lost(row)} for row in rows), "lost"))


def losses(rows: Sequence[Row]) -> str:
    """How many of these runs were lost, and in which ways: ``3 of 4 no face``."""
    found = Counter(verdict_of(row) for row in rows)
    ways = ", ".join(f"{found[way]} of {len(rows)} {way}" for way in LOST if found[way])
    return ways or f"0 of {len(rows)}"


class Facts:
    """Counts and means over the rows of a setting of an experiment.

    Arguments that many of the methods share: ``experiment`` and ``setting`` are the names that the
    tables have; ``of`` keeps only the runs of one prompt or of one kind of object; ``seed`` keeps
    only one seed. An unknown name raises a KeyError.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def by_name(self) -> dict[str, Callable[..., object]]:
        """Its methods, for the template."""
        return {name: getattr(self, name) for name in vars(Facts) if not name.startswith("_")}

    def runs(
        self, experiment: str, setting: str, of: str = "", seed: int | None = None
    ) -> list[Row]:
        """The rows themselves."""
        return [
            row
            for row in EXPERIMENTS[experiment].rows(setting, self.rows)
            if row["prompt"].endswith(of) and seed in (None, row["seed"])
        ]

    def lost(
        self, experiment: str, *settings: str, of: str = "", seed: int | None = None, way: str = ""
    ) -> str:
        """How many runs of these settings were lost (in one way): ``10 of 64``."""
        runs = [row for name in settings for row in self.runs(experiment, name, of, seed)]
        found = sum(verdict_of(row) == way if way else lost(row) for row in runs)
        return f"{found} of {len(runs)}" if runs else NOT_RUN

    def prompts(self, experiment: str, setting: str, seed: int | None = None) -> str:
        """How many prompts were lost, and the exact interval: ``0 of 16 prompts [0, 0.206]``."""
        found = prompts_lost(self.runs(experiment, setting, seed=seed))
        return str(found).replace(" [", " prompts [") if found.total else NOT_RUN

    def where(self, experiment: str, *settings: str) -> str:
        """The kinds of object that lost runs are of: ``car, mushroom and snowman``."""
        found = [row for name in settings for row in self.runs(experiment, name) if lost(row)]
        *others, last = sorted({row["prompt"].split()[-1] for row in found}) or ["nothing"]
        return f"{', '.join(others)} and {last}" if others else last

    def mean(self, experiment: str, setting: str, measure: str, of: str = "") -> float:
        """The mean of a measure, or NaN if no run has it."""
        return _mean([row[measure] for row in self.runs(experiment, setting, of) if measure in row])

    def db(self, experiment: str, *settings: str, of: str = "") -> str:
        """The mean PSNR in dB, or its range over several settings: ``27.8 to 28.0``."""
        return _range([self.mean(experiment, name, "psnr_aligned", of) for name in settings])

    def gain(self, experiment: str, setting: str, *others: str, of: str = "") -> str:
        """By how many dB a setting is nearer to the truth than others, over the runs of both."""
        found = []
        for other in others:
            pairs = self._pairs(experiment, setting, other, "psnr_aligned", of)
            found.append(_mean([one["psnr_aligned"] - two["psnr_aligned"] for one, two in pairs]))
        return _range(found)

    def times(self, experiment: str, setting: str, other: str) -> str:
        """How many times as long as a setting ``other`` takes."""
        pairs = self._pairs(experiment, setting, other, "seconds")
        return _range([_mean([two["seconds"] / one["seconds"] for one, two in pairs])])

    def lowest(self, experiment: str, *settings: str, of: str = "") -> str:
        """The lowest PSNR in dB of any run of a setting, or its range over several settings."""
        found = [
            [
                row["psnr_aligned"]
                for row in self.runs(experiment, name, of)
                if "psnr_aligned" in row
            ]
            for name in settings
        ]
        return _range([min(values, default=math.nan) for values in found])

    def scores(self, experiment: str, score: str, *settings: str) -> str:
        """The range over all runs of one of ``runs.SCORES``, at the noise level ``DIAGNOSED``."""
        return _scores([row for name in settings for row in self.runs(experiment, name)], score)

    def cosines_of_former_loras(self) -> str:
        """The same of ``gap_cosine``, over all runs of which both branches are a former LoRA's."""
        plain = {"loss.camera": "lora", "loss.marginal": "lora", "lora.timesteps": "all"}
        former = [
            row
            for row in self.rows
            if all(row["keys"].get(key, value) == value for key, value in plain.items())
        ]
        return _scores(former, "gap_cosine")

    def errors(
        self,
        experiment: str,
        *settings: str,
        score: str = "null_error",
        over: str = "null_error_teacher",
    ) -> str:
        """The range of a mean squared error, as a multiple of another one of the same run."""
        runs = [row for name in settings for row in self.runs(experiment, name)]
        return _range([row[score] / row[over] for row in runs if {score, over} <= row.keys()], 2)

    def same_digits(self) -> str:
        """In how many pairs SDS and ESD of weight 0 ended with the same measures."""
        pairs = [
            (_measures(one), _measures(two))
            for scale in (1, 2, 3, 5)
            for one, two in self._across(
                self.runs("rivals", f"SDS {scale}"), self.runs("guidance", f"{scale} / 0")
            )
        ]
        return f"{sum(one == two for one, two in pairs)} of {len(pairs)}"

    def more_lost(self, experiment: str, setting: str, other: str) -> Signs:
        """On how many prompts more runs were lost than by ``other``, over the runs of both."""
        pairs = self._pairs(experiment, setting, other, "faces")
        one, two = ([{**row, "lost": lost(row)} for row in rows] for rows in _apart(pairs))
        return signs(by_prompt(one, "lost"), by_prompt(two, "lost"))

    def nearer(self, experiment: str, setting: str, other: str) -> Signs:
        """On how many prompts the mean PSNR is higher than that of ``other``, over the same."""
        one, two = _apart(self._pairs(experiment, setting, other, "psnr_aligned"))
        return signs(by_prompt(one, "psnr_aligned"), by_prompt(two, "psnr_aligned"))

    def alike(self) -> str:
        """In how many cells, each a setting with a prompt, all seeds ended with one verdict."""
        cells = defaultdict(list)
        for row in self.rows:
            cells[str(sorted(row["keys"].items())), row["prompt"]].append(verdict_of(row))
        several = [cell for cell in cells.values() if len(cell) > 1]
        return f"{sum(len(set(cell)) == 1 for cell in several)} of {len(several)}"

    def faceless(self, told: bool) -> str:
        """How many of all lost runs have no face, with view words or without."""
        here = [row for row in self.rows if row["keys"].get("teacher.views.enabled", False) == told]
        found = [verdict_of(row) for row in here if lost(row)]
        return f"{found.count('no face')} of {len(found)}"

    def minutes(self, experiment: str) -> str:
        """How long its runs took, in minutes, when two go on at a time."""
        names = EXPERIMENTS[experiment].settings
        took = [row.get("seconds", 0) for name in names for row in self.runs(experiment, name)]
        return f"{sum(took) / WORKERS / 60:.0f}"

    def _pairs(
        self, experiment: str, setting: str, other: str, measure: str, of: str = ""
    ) -> list[tuple[Row, Row]]:
        """The runs of the same prompt and seed that both have a measure."""
        both = self._across(*(self.runs(experiment, name, of) for name in (setting, other)))
        return [pair for pair in both if all(measure in row for row in pair)]

    @staticmethod
    def _across(first: Sequence[Row], second: Sequence[Row]) -> list[tuple[Row, Row]]:
        """Those of the same prompt and seed."""
        theirs = {(row["prompt"], row["seed"]): row for row in second}
        keys = [(row["prompt"], row["seed"]) for row in first]
        return [(row, theirs[key]) for row, key in zip(first, keys, strict=True) if key in theirs]


def _apart(pairs: Sequence[tuple[Row, Row]]) -> tuple[list[Row], list[Row]]:
    return [one for one, _ in pairs], [two for _, two in pairs]


def _mean(values: Sequence[float]) -> float:
    return mean(values) if values else math.nan


def _scores(rows: Iterable[Row], score: str) -> str:
    return _range([row[score] for row in rows if score in row], 2)


def _measures(row: Row) -> dict[str, object]:
    return {name: row.get(name) for name in MEASURES}


def _range(values: Sequence[float], digits: int = 1) -> str:
    if not values or any(math.isnan(value) for value in values):
        return NOT_RUN
    # Adding 0 turns a rounded -0.0 into 0.0.
    low, high = (f"{round(end, digits) + 0:.{digits}f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
