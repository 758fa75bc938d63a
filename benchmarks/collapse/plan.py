"""What is compared: prompts, seeds, and the settings of every experiment. Runs nothing."""

import random
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import yaml
from typing_extensions import override

from esd_splat.config import load_config
from esd_splat.figurines import COLOURS, KINDS
from esd_splat.settings import read_flat, to_yaml

DEVELOPMENT = ("a green owl", "a yellow cat", "a red robot", "a blue snowman")
"""Every setting was chosen on these; two easy kinds, one whose front and back are alike, and
one whose front is small."""
HARD = ("a red car", "a green mushroom")
"""Two more that look alike from opposite sides: view words were decided on them too."""
DEVELOPMENT_SEEDS = (0, 1, 2)
FINAL = (
    *("a red owl", "a purple owl", "a blue cat", "a green cat", "a green robot", "a pink robot"),
    *("a white rabbit", "a red rabbit", "an orange duck", "a blue duck", "a yellow car"),
    *("an orange car", "a yellow snowman", "a red snowman", "a blue mushroom", "a pink mushroom"),
)
"""Two of every kind, for the final table. A first pass over them came before view words and the
entropy weight were chosen, so they are not unseen. Six were held out of the teacher's training."""
FINAL_SEEDS = (0, 1, 2, 3)
FRESH_SEED, FRESH_COUNT = 17, 12


def _fresh() -> tuple[str, ...]:
    """Draw figurines that nothing was chosen on and that no earlier table has."""
    every = [f"{'an' if c[0] == 'o' else 'a'} {c} {kind}" for kind in KINDS for c in COLOURS]
    left = [prompt for prompt in every if prompt not in {*DEVELOPMENT, *HARD, *FINAL}]
    return tuple(sorted(random.Random(FRESH_SEED).sample(left, FRESH_COUNT)))


FRESH = _fresh()
"""For the comparison of LoRAs that are trained well. See ``choice.md``."""
FRESH_SEEDS = (0, 1, 2)
QUICK = tuple(prompt for prompt in FINAL[::2] if not prompt.endswith(("duck", "car")))
"""Of six kinds: with all eight, a slow machine needs more than a quarter of an hour."""

VIEW = 64
"""Pixels a view on the contact sheets."""
DRAWN = (
    *("export.frames=0", "export.report=false", "log.sheet_every=0", "checkpoint_every=0"),
    f"export.size={VIEW}",
)
"""Of the pictures only the last contact sheet is drawn: the page shows some of those."""
UNRELATED = ("prompt", "seed", "out", "resume", "overwrite", "export", "log", "checkpoint_every")
"""Keys that do not change what a run finds."""


@dataclass(frozen=True)
class Setting:
    """One way to make a scene: a shipped config and what differs from it."""

    config: str
    overrides: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How it is typed."""
        return " ".join((self.config, *self.overrides))

    @cached_property
    def keys(self) -> dict[str, Any]:
        """What of the resolved config differs from the defaults: the setting's identity.

        So a row is still found when a default is written out, or a key is added to the config. The
        price: whoever changes a default must start the record anew.
        """
        plain = _resolved(None)
        return {
            key: value
            for key, value in _resolved(self.config, self.overrides).items()
            if key.split(".")[0] not in UNRELATED and value != plain.get(key)
        }


@dataclass(frozen=True)
class Past(Setting):
    """A setting whose code was tried, and deleted again: only its rows are left."""

    commit: str = ""
    """Where it can still be run."""

    @property
    @override
    def label(self) -> str:
        """How it was typed."""
        return f"{super().label} (commit {self.commit})"

    @cached_property
    @override
    def keys(self) -> dict[str, Any]:
        """What differed from the defaults; overrides name whole keys, as nothing resolves them."""
        pairs = (override.split("=", 1) for override in self.overrides)
        given = {key: yaml.safe_load(value) for key, value in pairs}
        plain = _resolved(None)
        every = Setting(self.config).keys | given
        return {key: value for key, value in every.items() if value != plain.get(key)}


@dataclass(frozen=True)
class Job:
    """One run."""

    setting: Setting
    prompt: str
    seed: int
    diagnosed: bool = False
    """Whether the scores at its end are held against the exact ones, which takes ten seconds."""


@dataclass(frozen=True)
class Experiment:
    """Settings that are compared with one another, over the same prompts and seeds."""

    name: str
    question: str
    settings: dict[str, Setting]
    """By the name that tables and plots give them."""
    prompts: tuple[str, ...] = DEVELOPMENT
    seeds: tuple[int, ...] = DEVELOPMENT_SEEDS
    diagnosed: bool = False

    def rows(self, name: str, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of ``rows`` that are runs of this experiment's setting ``name``."""
        keys = self.settings[name].keys
        return [
            row
            for row in rows
            if row["keys"] == keys and row["prompt"] in self.prompts and row["seed"] in self.seeds
        ]

    def jobs(self, only: Collection[str] | None = None) -> Iterator[Job]:
        """Every run that can be made, those of one prompt and seed together: a cut leaves pairs."""
        for seed in self.seeds:
            for prompt in self.prompts:
                for name, setting in self.settings.items():
                    if (only is None or name in only) and not isinstance(setting, Past):
                        yield Job(setting, prompt, seed, self.diagnosed)


@cache
def _resolved(config: str | None, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    return read_flat(to_yaml(load_config(config, ["prompt=-", *overrides])), "config")
