"""The flags of ``python -m toy.gaussians``: names, meanings, defaults and ranges."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from esd_splat.distill.losses import Esd, ScoreDistillation, Sds, Vsd

TIMESTEPS = 1000
"""Timesteps of the schedule that runs without ``--paper``."""
METHODS: dict[str, type[ScoreDistillation]] = {"esd": Esd, "sds": Sds, "vsd": Vsd}
"""Losses whose predictions are known exactly here."""
_WHOLE = {  # lowest and highest, where a longer run, a larger batch or picture makes no sense
    "ndim": (1, 1000),
    "seed": (0, 2**63 - 1),
    "total_steps": (1, 10**7),
    "warmup_steps": (0, 10**7),
    "batch_size": (1, 10**6),
    "logging_steps": (1, 10**7),
    "num_samples_vis": (1, 10**5),
    "timestep": (0, TIMESTEPS - 1),
    "fps_video": (1, 50),
}
_PAPER_BATCH = 8192
"""The signal of the last point of the batch is about 0.99 to this power: float32 ends at 10,000."""
_REAL = {"dist_0": 1e6, "min_lr": 1e6, "weight_decay": 1e6}
"""Highest; the lowest is 0."""


@dataclass(frozen=True)
class Settings:
    """One call of the command. Names are those of the paper's script; ours come last."""

    method: str = "esd"
    """What to fit with: sds, vsd or esd. With --compare, whose numbers result.json puts on top."""
    output_dir: Path | None = None
    """Folder for the results: new, empty, or of an earlier run, whose files are then replaced;
    default outputs/toy-METHOD."""
    ndim: int = 2
    """Dimension of the Gaussians; pictures show the first two."""
    dist_0: float = 10.0
    """How far away the fit starts: its mean is up to this much above the target's, per axis."""
    lambda_coeff: float = 1.0
    """Weight of the entropy in ESD, in [0, 4]; not used by SDS and VSD, for which it is 0."""
    seed: int = 0
    """Decides the target, the start and every draw."""
    total_steps: int = 2000
    """Optimizer steps."""
    warmup_steps: int | None = None
    """Steps over which the learning rate rises from 0; default 100, or a tenth of a short run."""
    batch_size: int = 256
    """Points per step."""
    lr: float | None = None
    """Learning rate of AdamW; default 0.05, at which means and covariances arrive; 0.01, at which
    means do not, with --paper."""
    min_lr: float = 0.0
    """Learning rate that the cosine ends in. With --paper, as there: a least multiple of --lr."""
    weight_decay: float = 0.0
    """Of AdamW, on mean and factor."""
    scheduler_type: str = "cosine"
    """cosine (after the warm-up), or none for the same learning rate at every step."""
    logging_steps: int = 10
    """Steps between two frames of the trajectory."""
    num_samples_vis: int = 1000
    """Points per distribution in pictures. With --paper, as there: --batch_size is used."""
    device: str = "cpu"
    """cpu, cuda, or a number for that CUDA device."""
    save_video: bool = True
    """Whether to write trajectory.gif."""
    fps_video: int = 30
    """Frames per second of trajectory.gif, at most 50."""
    compare: bool = False
    """Fit by SDS, VSD and ESD from the same start and draws, side by side."""
    paper: bool = False
    """Repeat the paper's script: its noise schedule, which is not variance preserving, its
    optimizer, and its SDS estimator, which is wrong."""
    timestep: int | None = None
    """Use this one timestep (0 to 999) instead of drawing from 20 to 980: at one noise level the
    covariance to end in is max(0, lambda S - (1 - lambda) sigma^2 / alpha^2)."""

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise ValueError("; ".join(problems))

    def _problems(self) -> Iterator[str]:
        if self.method not in METHODS:
            yield f"--method: must be one of {', '.join(sorted(METHODS))}, got {self.method}"
        for name, (low, high) in _WHOLE.items():
            if (value := getattr(self, name)) is not None and not low <= value <= high:
                yield f"--{name}: must be in [{low}, {high}], got {value}"
        for name, high in _REAL.items():
            if not 0 <= (value := getattr(self, name)) <= high:
                yield f"--{name}: must be in [0, {high:g}], got {value:g}"
        if self.lr is not None and not 0 < self.lr < math.inf:
            yield f"--lr: must be above 0 and finite, got {self.lr:g}"
        elif not self.paper and self.min_lr > self.learning_rate:
            yield f"--min_lr: must not be above --lr = {self.learning_rate:g}, got {self.min_lr:g}"
        try:
            Esd(self.lambda_coeff)
        except ValueError as error:
            yield str(error).replace("entropy_weight", "--lambda_coeff")
        if self.scheduler_type not in ("cosine", "none"):
            yield f"--scheduler_type: must be cosine or none, got {self.scheduler_type}"
        if self.paper and self.batch_size > _PAPER_BATCH:
            yield (
                f"--batch_size: must be at most {_PAPER_BATCH} with --paper, whose signal scale "
                f"is a product over the batch, got {self.batch_size}"
            )
        if self.paper and self.timestep is not None:
            yield "--timestep: --paper has no timesteps; leave one of the two out"

    @property
    def loss(self) -> ScoreDistillation:
        """The objective that ``method`` names."""
        return Esd(self.lambda_coeff) if self.method == "esd" else METHODS[self.method]()

    @property
    def entropy_weight(self) -> float:
        """lambda of ``loss``."""
        return self.lambda_coeff if self.method == "esd" else 0.0

    @property
    def torch_device(self) -> str:
        """``device`` as torch spells it."""
        return f"cuda:{int(self.device)}" if self.device.isdecimal() else self.device

    @property
    def learning_rate(self) -> float:
        """``lr`` or its default."""
        return (0.01 if self.paper else 0.05) if self.lr is None else self.lr

    @property
    def warmup(self) -> int:
        """``warmup_steps`` or its default."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return 100 if self.paper else min(100, self.total_steps // 10)

    @property
    def folder(self) -> Path:
        """``output_dir`` or its default."""
        return (
            self.output_dir or Path("outputs") / f"toy-{'compare' if self.compare else self.method}"
        )

    @property
    def title(self) -> str:
        """The method with its lambda, for people."""
        lam = f", lambda {self.lambda_coeff:g}" if self.method == "esd" else ""
        return f"{self.method.upper()}{lam}"
