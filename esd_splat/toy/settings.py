"""The flags of ``esd-splat toy``: names, meanings, defaults and ranges."""

from pathlib import Path
from typing import Annotated, Literal

from esd_splat.distill.losses import Esd, ScoreDistillation, Sds, Vsd
from esd_splat.distill.losses.esd import MAX_ENTROPY_WEIGHT
from esd_splat.errors import refuse
from esd_splat.settings.schema import Field, OneOf, section

TIMESTEPS = 1000
"""Timesteps of the schedule that runs without ``--paper``."""
METHODS: dict[str, type[ScoreDistillation]] = {"esd": Esd, "sds": Sds, "vsd": Vsd}
"""Losses whose predictions are known exactly here."""
_PAPER_BATCH = 8192
"""The signal of the last point of the batch is about 0.99 to this power: float32 ends at 10,000."""
MOST = 1e6
"""Highest distance and rate. Above this, as above the other limits, a run makes no sense."""


@section
class Settings:
    """One call of the command. Names are those of the paper's script; ours come last."""

    method: Annotated[str, OneOf(METHODS)] = "esd"
    """What to fit with: sds, vsd or esd. With --compare, whose numbers result.json puts on top."""
    output_dir: Path | None = None
    """Folder for the results: new, empty, or of an earlier run, whose files are then replaced;
    default outputs/toy-METHOD."""
    ndim: int = Field(default=2, ge=1, le=1000)
    """Dimension of the Gaussians; pictures show the first two."""
    dist_0: float = Field(default=10.0, ge=0, le=MOST)
    """How far away the fit starts: its mean is up to this much above the target's, per axis."""
    lambda_coeff: float = Field(default=1.0, ge=0, le=MAX_ENTROPY_WEIGHT)
    """Weight of the entropy in ESD, in [0, 4]; not used by SDS and VSD, for which it is 0."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """Decides the target, the start and every draw."""
    total_steps: int = Field(default=2000, ge=1, le=10**7)
    """Optimizer steps."""
    warmup_steps: int | None = Field(default=None, ge=0, le=10**7)
    """Steps over which the learning rate rises from 0; default 100, or a tenth of a short run."""
    batch_size: int = Field(default=256, ge=1, le=10**6)
    """Points per step."""
    lr: float | None = Field(default=None, gt=0)
    """Learning rate of AdamW; default 0.05, at which means and covariances arrive; 0.01, at which
    means do not, with --paper."""
    min_lr: float = Field(default=0.0, ge=0, le=MOST)
    """Learning rate that the cosine ends in. With --paper, as there: a least multiple of --lr."""
    weight_decay: float = Field(default=0.0, ge=0, le=MOST)
    """Of AdamW, on mean and factor."""
    scheduler_type: Literal["cosine", "none"] = "cosine"
    """cosine (after the warm-up), or none for the same learning rate at every step."""
    logging_steps: int = Field(default=10, ge=1, le=10**7)
    """Steps between two frames of the trajectory."""
    num_samples_vis: int = Field(default=1000, ge=1, le=10**5)
    """Points per distribution in pictures. With --paper, as there: --batch_size is used."""
    device: str = "cpu"
    """cpu, cuda, or a number for that CUDA device."""
    save_video: bool = True
    """Whether to write trajectory.gif."""
    fps_video: int = Field(default=30, ge=1, le=50)
    """Frames per second of trajectory.gif, at most 50."""
    compare: bool = False
    """Fit by SDS, VSD and ESD from the same start and draws, side by side."""
    paper: bool = False
    """Repeat the paper's script: its noise schedule, which is not variance preserving, its
    optimizer, and its SDS estimator, which is wrong."""
    timestep: int | None = Field(default=None, ge=0, lt=TIMESTEPS)
    """Use this one timestep (0 to 999) instead of drawing from 20 to 980: at one noise level the
    covariance to end in is max(0, lambda S - (1 - lambda) sigma^2 / alpha^2)."""

    def __post_init__(self) -> None:
        problems: list[str] = []
        if not self.paper and self.min_lr > self.learning_rate:
            most = f"lr = {self.learning_rate:g}"
            problems.append(f"min_lr: must be at most {most}, got {self.min_lr:g}")
        if self.paper and self.batch_size > _PAPER_BATCH:
            problems.append(
                f"batch_size: must be at most {_PAPER_BATCH} with --paper, whose signal scale is a "
                f"product over the batch, got {self.batch_size}"
            )
        if self.paper and self.timestep is not None:
            problems.append("timestep: cannot be given with --paper, which has no timesteps")
        refuse(problems)

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
