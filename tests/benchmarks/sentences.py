"""Where every number in the words of the study, and of the README about it, is from.

The text of the page is a template. What it computes from the rows cannot go stale. Each number that
is written out is named here: as that of a setting, as a value that is worked out here, as a figure
of speech, or as something that no row has, with its source. A sentence that is added with a number
needs either a call in the template or an entry here.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

from benchmarks.collapse.experiments import DOSES, EXPERIMENTS
from benchmarks.collapse.facts import LOST, WORKERS, Facts, lost, prompts_lost
from benchmarks.collapse.plan import DEVELOPMENT, FINAL, FINAL_SEEDS, FRESH, HARD
from benchmarks.collapse.runs import DIAGNOSED, read_rows
from esd_splat.config import Measure, load_config
from esd_splat.distill.losses import Esd
from esd_splat.figurines import COLOURS, KINDS
from esd_splat.run.measure.faces import FRONT_DEG, JANUS_SHARE
from esd_splat.settings import read_flat, to_yaml

WEIGHTS = Path(__file__).parents[2] / "esd_splat" / "figurines" / "weights"
WORDS = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve"),
]
POOL = load_config("esd_pool", ["prompt=-"])
FACTS = Facts(read_rows())
Values = Callable[[], tuple[object, ...]]


def _over(experiment: str) -> set[str]:
    """The numbers in the names of an experiment's settings."""
    return set(re.findall(r"[\d.]*\d", " ".join(EXPERIMENTS[experiment].settings)))


def _entropy_weight(config: str) -> float:
    loss = load_config(config, ["prompt=-"]).loss
    assert isinstance(loss, Esd)
    return loss.entropy_weight


def _seeds(experiment: str, setting: str) -> int:
    return len({row["seed"] for row in FACTS.runs(experiment, setting)})


def _prompts(setting: str, seed: int | None = None) -> tuple[int, int]:
    found = prompts_lost(FACTS.runs("full", setting, seed=seed))
    return found.count, found.total


def _lost(setting: str) -> int:
    return sum(map(lost, FACTS.runs("fresh", setting)))


LABELS: dict[str, set[str]] = {
    r"guidance (\d)": _over("guidance"),
    r"(?:at|a) scale of (\d)": _over("rivals"),
    r"\bweight (?:of )?([\d.]*\d)": _over("weight") | {"1.5"},
    r"bandwidth ([\d.]*\d)": _over("pool_bandwidth"),
    r"([\d]+) steps": _over("steps"),
    r"(\d+) views": _over("pool_views"),
    r"(\d+) Gaussians": _over("scene"),
    r"from ([\d.]+) down": _over("start_of_noise"),
    r"rank (\d+)": _over("lora"),
    r"\bseed (\d)\b": {str(seed) for seed in FINAL_SEEDS},
}
"""What a number in such a phrase may be: that of a setting of an experiment."""

HELD: dict[str, Values] = {
    "{} % of the photographs it was trained on were taken within {} degrees of the front": lambda: (
        round(100 * json.loads((WEIGHTS / "vocabulary.json").read_text())["recipe"]["front_share"]),
        round(FRONT_DEG),
    ),
    "minutes on {} cores": lambda: (WORDS[WORKERS],),
    "{} steps of {} views": lambda: (POOL.steps, POOL.batch),
    "seen from {} sides": lambda: (Measure().views,),
    "in one of {} ways": lambda: (WORDS[len(LOST)],),
    "The {} columns before it count runs": lambda: (WORDS[len(LOST)],),
    "more than {:g} times a quarter of the views": lambda: (JANUS_SHARE / (8 * FRONT_DEG / 360),),
    "Of the truth, a quarter are, or {} view more": lambda: (WORDS[round(Measure().views / 16)],),
    "at most log {} = {:.2f}": lambda: (Measure().views, math.log(Measure().views)),
    "With {} prompts such an interval is rough": lambda: (len(DEVELOPMENT),),
    "An experiment on {} prompts cannot": lambda: (len(DEVELOPMENT),),
    "chosen on {} development prompts": lambda: (len(DEVELOPMENT),),
    "for all views together, at an entropy weight of {}.": lambda: (_entropy_weight("esd"),),
    "on {} figurines that no setting was chosen on": lambda: (len(FRESH),),
    "drew them from the {} that were left": lambda: (
        len(KINDS) * len(COLOURS) - len({*DEVELOPMENT, *HARD, *FINAL}),
    ),
    "The earlier table is of {} other prompts, {} of each kind": lambda: (
        len(FINAL),
        len(FINAL) // len({prompt.split()[-1] for prompt in FINAL}),
    ),
    "over these {} (seed 0 only": lambda: (len(FINAL),),
    "which is among the {}.": lambda: (len(FINAL),),
    "loses § at guidance 1, § at {}, § at {} and § at {}.": lambda: (2, 3, 5),
    "dB at {}, {}, {} and {}.": lambda: (1, 2, 3, 5),
    "of 0.75 it is §, of {} §, of {} §, of {} §.": lambda: (0.5, 0.25, 0),
    "bandwidth 0.5 it is §, of {} §; with 64 views in it instead of {} §, with {} §.": lambda: (
        *(0, POOL.pool.views, 16),
    ),
    "from 0.6 down instead of {} it is §; with 350 steps instead of {} §, with {} §;": lambda: (
        *(POOL.timesteps.min_start, POOL.steps, 200),
    ),
    "from 300 Gaussians instead of {} §,": lambda: (
        read_flat(to_yaml(POOL), "config")["init.count"],
    ),
    "where 300 Gaussians begin instead of {},": lambda: (
        read_flat(to_yaml(POOL), "config")["init.count"],
    ),
    "with {}, {} and {} % of the photographs from the front": lambda: (*DOSES,),
    "at t = {} T": lambda: (DIAGNOSED,),
    "§ times its time, with {} seed.": lambda: (_seeds("lora", "4 steps each"),),
    "for longer, {} steps to each of": lambda: (4,),
    "With {} step to each, the mean": lambda: (load_config("esd_paper", ["prompt=-"]).lora.steps,),
    "({} seed; {} without a warm-up)": lambda: (
        _seeds("lora", "rank 32"),
        _seeds("lora", "no warm-up"),
    ),
    "At a rate of {} the snowman is": lambda: ("0.0001",),
    "At {} the mean squared error is": lambda: (0.01,),
    "exact distribution ({}) to a single Gaussian for all views ({}), ": lambda: (0, 1),
    "At {} the entropy is that of the Gaussian": lambda: (1,),
    "nothing at {}, and a best value in between. Seen: at {}, §": lambda: (0, 0),
    "Up to {} there is hardly more than that (§ runs lost), at {} the robot is kept as well (§ "
    "lost), and {} keeps all (§ lost).": lambda: (0.1, 0.5, 1),
    "A pool of 16 views, those of {} steps,": lambda: (16 // POOL.batch,),
    "with {} § and with {} §, at § dB less than {}, perhaps because half of them were drawn more "
    "than {} steps ago": lambda: (128, 256, 128, 256 // 2 // POOL.batch),
    "{} gain nothing": lambda: (800,),
    "on photographs of which {} or {} % were taken within {} degrees": lambda: (
        *(min(DOSES), max(DOSES), round(FRONT_DEG)),
    ),
    "SDS at {} % does as VSD (former) at {}; ESD (pool) survives {}.": lambda: (*DOSES,),
    "{} % costs ESD (pool) § dB": lambda: (max(DOSES),),
    "A weight that falls from {} to {} does as well as {} all along": lambda: (2, 1, 1),
    "Seen: neither, with {} seed.": lambda: (_seeds("beyond", "uniform prior"),),
    "§ at a scale of 3 (§) and § at {} (§)": lambda: (5,),
    "The earlier table has it at {}, which": lambda: (3,),
    "at {} it comes as near to the truth as at {} (§": lambda: (3, 1),
    "of the teacher that ships, {} samples and {} steps": lambda: re.findall(
        r"--samples (\d+) --steps (\d+)", (WEIGHTS / "README.md").read_text()
    )[0],
}
"""Phrases of the page, and what their numbers must be; § is what the template fills in."""

README_HELD: dict[str, Values] = {
    "ESD without a LoRA () lost the face in {} runs: {} of {} prompts with {} seeds each, a share "
    "whose exact 95 % interval ends at {:.3f}.": lambda: (
        FACTS.lost("full", "ESD (pool)"),
        *_prompts("ESD (pool)"),
        len(FINAL_SEEDS),
        prompts_lost(FACTS.runs("full", "ESD (pool)")).ends[1],
    ),
    "SDS lost it in {} runs ({} of {} prompts), and with guidance and Perp-Neg in {} ({} of {} "
    "prompts), {} dB further from the truth.": lambda: (
        *(FACTS.lost("full", "SDS"), *_prompts("SDS")),
        *(FACTS.lost("full", "SDS, Perp-Neg"), *_prompts("SDS, Perp-Neg")),
        FACTS.gain("full", "ESD (pool)", "SDS, Perp-Neg"),
    ),
    "VSD, whose LoRA was trained differently then, lost it in {} runs, {} dB further from the "
    "truth and in {} times the time.": lambda: (
        FACTS.lost("full", "VSD, former"),
        FACTS.gain("full", "ESD (pool)", "VSD, former"),
        FACTS.times("full", "ESD (pool)", "VSD, former"),
    ),
    "that VSD lost {} of {} prompts, and ESD without a LoRA {} of {} with the same seed; with {} "
    "seeds it lost {} runs ({} of {} prompts).": lambda: (
        *_prompts("VSD blind, former"),
        *(*_prompts("ESD (pool) blind", seed=0), len(FINAL_SEEDS)),
        *(FACTS.lost("full", "ESD (pool) blind"), *_prompts("ESD (pool) blind")),
    ),
    "compared on {} fresh prompts, told no view, with up to {} seeds each. lost {} runs, "
    "{}, the paper's ESD {}, VSD {} and SDS {}.": lambda: (
        *(len(EXPERIMENTS["fresh"].prompts), len(EXPERIMENTS["fresh"].seeds)),
        *(FACTS.lost("fresh", name) for name in ("ESD", "ESD (pool)", "ESD (paper)", "VSD", "SDS")),
    ),
    "takes {} times as long as .": lambda: (FACTS.times("fresh", "ESD (pool)", "ESD"),),
    "looked into (cosines of {} to {})": lambda: (
        *re.findall(r"-?[\d.]+", FACTS.cosines_of_former_loras()),
    ),
    "the latest {} views": lambda: (POOL.pool.views,),
    "SDS took {} times as long as , and VSD and the paper's ESD with that training {} and {} "
    "times.": lambda: (
        FACTS.times("full", "ESD (pool)", "SDS"),
        FACTS.times("full", "ESD (pool)", "VSD, former"),
        FACTS.times("full", "ESD (pool)", "ESD (paper), former"),
    ),
}
"""The same for the paragraphs of the README that name the study."""

SPEECH = (
    "A face is lost if there is none,",
    "on every side, or on none (the Janus",
    "at least half of its runs",
    "with a 95 % bootstrap interval",
    "the exact interval at 95 %",
    "Two settings are compared",
    "Half hidden, attention only",
    "that is not zero at the start",
    "In hundreds of dimensions",
    "cannot tell one front from two.",
    "An object with two fronts shows the same views, each twice,",
    "A ball of half the size",
    "; two scenes that take turns",
    "weight 1 at 70 % of the most that they could tell, 2 more or less for all of it",
    "after 500 steps of the paper's ESD",
    "Tables from before 30 November",
    "On 30 November",
    "a LoRA for the prediction that knows the camera",
    "the direction is half that of the pool alone",
    "of weight 0 if it knows its camera as well as can be, and 1 if it ignores it",
)
"""Definitions and figures of speech."""

OFF_RECORD = {
    "(seed 0 only, no view words, weight 1.5) lost 3, an orange car, a yellow snowman and a blue "
    "mushroom": "a first pass, of which no rows were kept",
    "and 300 steps, VSD and ESD with a former LoRA lost 7 of 8 prompts each (1 seed;": "the rows "
    "at the commit that the sentence names",
    "trained on for 1500 steps": "the command below the sentence",
    "within 45 degrees of the front in 36, 58 and 76 % of cases (6 samples of each prompt, 15 "
    "steps,": "the reports of the teachers, which are too large to commit",
    "which was chosen on 1 seed": "exploratory runs, which are not on record",
}
"""What no row has, and where it is from."""

CLAIMS: dict[str, Callable[[], bool]] = {
    "ESD and the pool alone lose fewer runs than the methods whose LoRA makes all": lambda: (
        max(_lost("ESD"), _lost("ESD (pool)"))
        < min(map(_lost, ("ESD (paper)", "VSD", "VSD, former")))
    ),
    "Nothing else in the table comes as near to the truth": lambda: all(
        FACTS.mean("full", name, "psnr_aligned") < FACTS.mean("full", "ESD (pool)", "psnr_aligned")
        for name in EXPERIMENTS["full"].settings
        if name != "ESD (pool)"
    ),
    "At weight 1 nothing is lost at any guidance": lambda: FACTS.lost(
        "guidance", "1 / 1", "2 / 1", "3 / 1", "5 / 1"
    ).startswith("0 of "),
    "VSD (former) and ESD (pool) lose nothing at any dose": lambda: (
        FACTS.lost("dose", *(f"{name}, {dose} %" for name in ("VSD", "ESD") for dose in DOSES))
        == "0 of 72"
    ),
    "so it is for owl, cat and robot, which keep their face in every run": lambda: (
        FACTS.where("scene", *EXPERIMENTS["scene"].settings) == "snowman"
    ),
    "What falls just short loses the snowman alone": lambda: all(
        FACTS.where(*pair) == "snowman"
        for pair in (
            *(("weight", "0.75"), ("pool_bandwidth", "0.5"), ("pool_views", "64")),
            *(("pool_views", "16"), ("steps", "350"), ("scene", "sphere")),
        )
    ),
    "all of them of the robot and the snowman": lambda: (
        FACTS.where("marginal", "noise, LoRA") == "robot and snowman"
    ),
    "robots are lost, and no other run": lambda: FACTS.where("lora", "no warm-up") == "robot",
    "it counts as too wide": lambda: (
        FACTS.lost("words", "view words, weight 1.5", of="car", way="too wide") == "1 of 3"
    ),
}
"""Sentences that say how many without a number."""
