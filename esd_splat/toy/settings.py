"""The flags of ``esd-splat toy``: names, meanings, defaults and ranges."""

from pathlib import Path
from typing import Annotated, Literal

from esd_splat.distill.losses import Esd, ScoreDistillation, Sds, Vsd
from esd_splat.distill.losses.esd import MAX_ENTROPY_WEIGHT
from esd_splat.errors import refuse
from esd_splat.settings.schema import Field, OneOf, section

TIMESTEPS = 1000
"""The number of timesteps in the schedule that is used without ``--paper``."""
METHODS: dict[str, type[ScoreDistillation]] = {"esd": Esd, "sds": Sds, "vsd": Vsd}
"""Losses for which all predictions are known exactly."""
_PAPER_BATCH = 8192
"""The signal of the last point is about 0.99 to this power. At 10,000, float32 underflows."""
MOST = 1e6
"""The highest distance and rates. Beyond this and the other limits, a run makes no sense."""


@section
class Settings:
    """The flags of the command. The names are those of the paper's script, followed by our own."""

    method: Annotated[str, OneOf(METHODS)] = "esd"
    """The method: sds, vsd or esd. With --compare, the one at the top level of result.json."""
    output_dir: Path | None = None
    """Folder for the results. It must be new, empty, or the result of an earlier run, which is
    replaced. Default: outputs/toy-METHOD."""
    ndim: int = Field(default=2, ge=1, le=1000)
    """Dimension of the Gaussians. Pictures show the first two dimensions."""
    dist_0: float = Field(default=10.0, ge=0, le=MOST)
    """Distance of the start: per axis, its mean is above that of the target by up to this."""
    lambda_coeff: float = Field(default=1.0, ge=0, le=MAX_ENTROPY_WEIGHT)
    """Weight of the entropy in ESD, in [0, 4]. SDS and VSD ignore it: theirs is 0."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """Seed of the target, the start and all random draws."""
    total_steps: int = Field(default=2000, ge=1, le=10**7)
    """Number of optimizer steps."""
    warmup_steps: int | None = Field(default=None, ge=0, le=10**7)
    """Steps over which the learning rate rises from 0. Default: 100, or 1/10 of a short run."""
    batch_size: int = Field(default=256, ge=1, le=10**6)
    """Number of points per step."""
    lr: float | None = Field(default=None, gt=0)
    """Learning rate of AdamW. Default: 0.05, with which mean and covariance converge. With --paper:
    0.01, with which the mean does not."""
    min_lr: float = Field(default=0.0, ge=0, le=MOST)
    """Learning rate at the end of the cosine. With --paper, the smallest factor on --lr."""
    weight_decay: float = Field(default=0.0, ge=0, le=MOST)
    """Weight decay of AdamW, applied to the mean and the factor of the covariance."""
    scheduler_type: Literal["cosine", "none"] = "cosine"
    """cosine (after the warm-up), or none for a constant learning rate without warm-up."""
    logging_steps: int = Field(default=10, ge=1, le=10**7)
    """Steps between two frames of the trajectory."""
    num_samples_vis: int = Field(default=1000, ge=1, le=10**5)
    """Points per distribution in pictures. With --paper, --batch_size is used instead."""
    device: str = "cpu"
    """cpu, cuda, or the number of a CUDA device."""
    save_video: bool = True
    """Whether to write trajectory.gif."""
    fps_video: int = Field(default=30, ge=1, le=50)
    """Frames per second of trajectory.gif, at most 50."""
    compare: bool = False
    """Compare SDS, VSD and ESD side by side, with the same start and draws."""
    paper: bool = False
    """Repeat the paper's script with its noise schedule, which is not variance preserving, its
    optimizer settings, and its SDS estimator, which is wrong."""
    timestep: int | None = Field(default=None, ge=0, lt=TIMESTEPS)
    """Use this timestep (0 to 999) instead of random ones from 20 to 980. At a single noise level,
    the covariance should converge to max(0, lambda S - (1 - lambda) sigma^2 / alpha^2)."""

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
        """The loss that ``method`` selects."""
        return Esd(self.lambda_coeff) if self.method == "esd" else METHODS[self.method]()

    @property
    def entropy_weight(self) -> float:
        """The lambda of ``loss``."""
        return self.lambda_coeff if self.method == "esd" else 0.0

    @property
    def torch_device(self) -> str:
        """``device`` in the spelling of PyTorch."""
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
        """The name of the method with its lambda, for people."""
        lam = f", lambda {self.lambda_coeff:g}" if self.method == "esd" else ""
        return f"{self.method.upper()}{lam}"
