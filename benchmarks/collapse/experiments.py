"""Every experiment of the study, and which of them a preset carries out."""

from benchmarks.collapse.plan import (
    DEVELOPMENT,
    FINAL,
    FINAL_SEEDS,
    FRESH,
    FRESH_SEEDS,
    HARD,
    QUICK,
    Experiment,
    Past,
    Setting,
)

FORMER = ("lora.timesteps=all", "lora.weighting=output")
"""How a LoRA was trained before FLAGSHIP, PAPER and VSD got their own way. It still is the default,
so rows from then are found."""
FLAGSHIP, POOL, SDS = Setting("esd"), Setting("esd_pool"), Setting("sds")
PAPER, VSD = Setting("esd_paper"), Setting("vsd")
FORMER_PAPER = Setting("esd_paper", (*FORMER, "lora.camera_dropout=0.1"))
FORMER_VSD = Setting("vsd", FORMER)
BLIND = "teacher.views.enabled=false"
AT_ONCE = "timesteps.min_start=null"
PERP_NEG = "teacher.views.perp_neg.enabled=true"


def _with(base: Setting, *overrides: str) -> Setting:
    """``base`` with further overrides, which replace its own of the same key."""
    pairs = {key: value for key, _, value in (o.partition("=") for o in base.overrides + overrides)}
    return Setting(base.config, tuple(f"{key}={value}" for key, value in pairs.items()))


def _over(base: Setting, key: str, *values: object) -> dict[str, Setting]:
    """One factor at a time: ``base`` with ``key`` at each of the values."""
    return {f"{value}": _with(base, f"{key}={value}") for value in values}


def _grid(base: Setting, down: tuple[str, ...], across: tuple[str, ...]) -> dict[str, Setting]:
    """``base`` with every pair of overrides, named by their values as ``down / across``."""

    def value(override: str) -> str:
        return override.split("=")[-1]

    return {
        f"{value(one)} / {value(other)}": _with(base, one, other)
        for one in down
        for other in across
    }


def _scheduled(start: int, end: int) -> tuple[str, ...]:
    return "loss.name=esd_scheduled", f"loss.start={start}", f"loss.end={end}"


def _clamp(most: float) -> tuple[str, str]:
    """Debiased-SDS: the limit rises fourfold over the run."""
    return f"clamp.start={most / 4}", f"clamp.end={most}"


TRIED = "0dfef70"
"""What was tried and deleted again is still in this commit."""


def _past(base: Setting, *overrides: str, commit: str = TRIED) -> Past:
    return Past(base.config, (*base.overrides, *overrides), commit)


NOISY = "2b49b72"
"""And this has the LoRA's prediction with the noise put back, ``loss.camera=lora_noisy``."""


SCALES = {scale: f"teacher.guidance_scale={scale}" for scale in (1, 2, 3, 5)}
FEW = {scale: SCALES[scale] for scale in (1, 3)}
MANY = {scale: SCALES[scale] for scale in (1, 3, 5)}
GUIDANCE = tuple(SCALES.values())
HIDDEN = ("loss.entropy_weight=1", "lora.camera_dropout=1")
WEIGHTS = tuple(f"loss.entropy_weight={weight}" for weight in (0, 0.5, 1, 1.5))

HELD = ("loss.name=esd_held", "loss.weight=1", "loss.gain=2", "loss.target=0.7")
UNIFORM = "teacher.views.uniform=true"
DOSES = {
    40: ("teacher.model=outputs/teachers/front40",),
    70: (),
    90: ("teacher.model=outputs/teachers/front90",),
}
"""Teachers by the share of their photographs that was taken within 45 degrees of the front."""

COMPARED = {
    "ESD": FLAGSHIP,
    "ESD (paper)": PAPER,
    "ESD (pool)": POOL,
    "VSD": VSD,
    "VSD, former": FORMER_VSD,
    "SDS": SDS,
}

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "fresh",
            "How do the methods compare on figurines that nothing was chosen on, told no view?",
            {name: _with(setting, BLIND) for name, setting in COMPARED.items()},
            FRESH,
            FRESH_SEEDS,
        ),
        Experiment(
            "fresh_told",
            "The same with view words.",
            COMPARED,
            FRESH,
            (0,),
        ),
        Experiment(
            "flagship",
            "Which LoRA does ESD need, told no view?",
            {
                "pool alone": _with(POOL, BLIND),
                "LoRA and pool": _with(FLAGSHIP, BLIND),
                "LoRA frozen at its start": _with(FLAGSHIP, BLIND, "lora.lr=1e-12"),
                "noise put back": _past(FLAGSHIP, BLIND, "loss.camera=lora_noisy", commit=NOISY),
                "LoRA from the pool": _with(FLAGSHIP, BLIND, "lora.base=pool"),
                "LoRA from the pool, both": _with(PAPER, BLIND, "lora.base=pool"),
                "camera by its pose": _with(FLAGSHIP, BLIND, "lora.camera=pose"),
                "weight 0.25": _with(FLAGSHIP, BLIND, "loss.entropy_weight=0.25"),
                "weight 0.75": _with(FLAGSHIP, BLIND, "loss.entropy_weight=0.75"),
                "LoRA alone": _with(PAPER, BLIND),
                "VSD": _with(VSD, BLIND),
            },
            (*DEVELOPMENT, *HARD),
            (1, 2),
            diagnosed=True,
        ),
        Experiment(
            "full",
            "What each method makes of prompts that are not the development prompts.",
            {
                "SDS": SDS,
                "SDS, guidance 5": _with(SDS, SCALES[5]),
                "SDS, Perp-Neg": _with(SDS, PERP_NEG, SCALES[3]),
                "VSD, former": FORMER_VSD,
                "VSD blind, former": _with(FORMER_VSD, BLIND),
                "ESD (paper), former": FORMER_PAPER,
                "ESD (pool)": POOL,
                "ESD (pool) blind": _with(POOL, BLIND),
            },
            FINAL,
            FINAL_SEEDS,
        ),
        Experiment(
            "quick",
            "The same on one prompt of six kinds.",
            {"SDS": SDS, "VSD, former": FORMER_VSD, "ESD (pool)": POOL},
            QUICK,
            (0,),
        ),
        Experiment(
            "weight",
            "How much does the entropy term weigh? 0 is SDS.",
            _over(POOL, "loss.entropy_weight", 0, 0.25, 0.5, 0.75, 1, 1.5, 2),
        ),
        Experiment(
            "guidance",
            "Does guidance cause the collapse, and what entropy weight survives it?",
            _grid(POOL, GUIDANCE, WEIGHTS),
        ),
        Experiment(
            "rivals",
            "At which settings is each rival at its best?",
            {
                **{f"SDS {s}": _with(SDS, g) for s, g in SCALES.items()},
                **{f"SDS blind {s}": _with(SDS, BLIND, g) for s, g in FEW.items()},
                **{f"SDS Perp-Neg {s}": _with(SDS, PERP_NEG, g) for s, g in MANY.items()},
                **{f"SDS clamp {c}": _with(SDS, *_clamp(c)) for c in (0.1, 0.3)},
                "SDS all noise at once": _with(SDS, AT_ONCE),
                **{f"VSD {s}": _with(FORMER_VSD, g) for s, g in FEW.items()},
                "VSD all noise at once": _with(FORMER_VSD, AT_ONCE),
            },
        ),
        Experiment(
            "pool_bandwidth",
            "How far must the entropic force see? 0 is the exact distribution of the views.",
            _over(POOL, "pool.bandwidth", 0, 0.01, 0.1, 0.5, 1),
        ),
        Experiment(
            "pool_views",
            "How many views have to be pooled?",
            _over(POOL, "pool.views", 16, 64, 128, 256),
        ),
        Experiment("steps", "How long must a run be?", _over(POOL, "steps", 200, 350, 500, 800)),
        Experiment(
            "start_of_noise",
            "Do low noise levels commit a run to its first view? Lower bound at the start.",
            _over(POOL, "timesteps.min_start", "null", 0.3, 0.6, 0.9),
        ),
        Experiment(
            "marginal",
            "Can a LoRA learn what the pool computes?",
            {
                "pool, weight 1": _with(POOL, "loss.entropy_weight=1"),
                "LoRA, 10 % hidden": _with(FORMER_PAPER, "loss.entropy_weight=1"),
                "LoRA, all hidden": _with(FORMER_PAPER, *HIDDEN),
                "all hidden, 4 steps each": _with(FORMER_PAPER, *HIDDEN, "lora.steps=4"),
                "noise, LoRA": _with(FORMER_PAPER, "loss.camera=noise", HIDDEN[1]),
                "LoRA, pool": _with(FORMER_PAPER, "loss.marginal=pool"),
            },
            seeds=(0, 1),
            diagnosed=True,
        ),
        Experiment(
            "lora",
            "Does the paper's ESD depend on how its LoRA is made and trained?",
            {
                "10 % hidden, rank 8, rate 0.001": FORMER_PAPER,
                "half hidden": _with(FORMER_PAPER, "lora.camera_dropout=0.5"),
                "rank 2": _with(FORMER_PAPER, "lora.rank=2"),
                "rank 32": _with(FORMER_PAPER, "lora.rank=32"),
                "rate 0.0001": _with(FORMER_PAPER, "lora.lr=1e-4"),
                "rate 0.01": _with(FORMER_PAPER, "lora.lr=1e-2"),
                "4 steps each": _with(FORMER_PAPER, "lora.steps=4"),
                "no warm-up": _with(FORMER_PAPER, "lora.warmup=0"),
                "attention only": _with(FORMER_PAPER, "lora.layers=attention"),
                "camera from the start": _past(FORMER_PAPER, "lora.camera_scale=1"),
            },
            seeds=(0, 1),
            diagnosed=True,
        ),
        Experiment(
            "beyond",
            "Does anything beyond the paper do better?",
            {
                "as shipped": POOL,
                "weight 2 to 1": _past(SDS, *_scheduled(2, 1)),
                "weight 1 to 0": _past(SDS, *_scheduled(1, 0)),
                "weight 0 to 1": _past(SDS, *_scheduled(0, 1)),
                "information held": _past(SDS, *HELD),
                "two scenes": _past(POOL, "scenes=2", "steps=1000"),
                "uniform prior": _past(POOL, UNIFORM),
                "SDS, uniform prior": _past(SDS, UNIFORM),
                "VSD, uniform prior": _past(FORMER_VSD, UNIFORM),
            },
        ),
        Experiment(
            "dose",
            "How much bias for the front does each method survive?",
            {
                f"{name}, {share} %": _with(setting, *teacher)
                for share, teacher in DOSES.items()
                for name, setting in {"SDS": SDS, "VSD": FORMER_VSD, "ESD": POOL}.items()
            },
        ),
        Experiment(
            "scene",
            "Do the start and the densifier make fronts or floaters of their own?",
            {
                "as shipped": POOL,
                "sphere": _with(POOL, "init=sphere"),
                "small ball": _with(POOL, "init.radius=0.4"),
                "300 Gaussians": _with(POOL, "init.count=300"),
                "no colour noise": _with(POOL, "init.color_noise=0"),
                "more colour noise": _with(POOL, "init.color_noise=0.4"),
                "no densifier": _with(POOL, "densify=none"),
                "MCMC": _with(POOL, "densify=mcmc"),
                "grey background": _with(POOL, "background=grey"),
            },
        ),
        Experiment(
            "words",
            "Does it help to tell the teacher the view?",
            {
                "view words": POOL,
                "view words, weight 1.5": _with(POOL, WEIGHTS[3]),
                "blind": _with(POOL, BLIND),
                "blind, weight 1.5": _with(POOL, BLIND, WEIGHTS[3]),
                "Perp-Neg": _with(POOL, PERP_NEG),
            },
            (*DEVELOPMENT, *HARD),
        ),
    )
}
PRESETS = {
    "quick": ("quick",),
    "full": ("full",),
    "fresh": ("fresh", "fresh_told"),
    "study": tuple(n for n, e in EXPERIMENTS.items() if {*e.prompts} <= {*DEVELOPMENT, *HARD}),
}
