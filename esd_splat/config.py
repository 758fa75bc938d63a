"""The whole configuration of a run, assembled from the config sections of its parts.

Only code that handles a run as a whole reads it. Each part is given only its own section.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from esd_splat.config_files import read_config, source_name
from esd_splat.distill.lora import Lora
from esd_splat.distill.losses import LOSSES, Clamp, Esd, Regularise, ScoreDistillation
from esd_splat.distill.pool import Pool
from esd_splat.distill.predictions import LORA_INPUTS
from esd_splat.errors import Problem, refuse
from esd_splat.files import expanded
from esd_splat.formats import EXPORTERS
from esd_splat.init import INITIALISERS, Ball, Initialiser
from esd_splat.scene.cameras import Orbit
from esd_splat.scene.densify import DENSIFIERS, CloneSplit, Densifier
from esd_splat.scene.optim import Optim
from esd_splat.settings import load
from esd_splat.settings.schema import Field, OneOf, Plugin, section
from esd_splat.teacher import TEACHERS, Memory, StableDiffusion, TeacherConfig
from esd_splat.teacher.noise import TimestepRange

VERSION = 1
"""Version of the config format. Increase it by 1 when an old file would be read differently."""

MAX_SEED = 2**28 - 1
"""The largest seed. The generators of a step are seeded with 16 times the run's seed plus a number
below 16, and torch's CPU generator reads only 32 bits of a seed."""


@section
class Log:
    """What a run logs while it goes."""

    every: int = Field(default=10, ge=1)
    """Number of steps between the rows of metrics.csv."""
    sheet_every: int = Field(default=0, ge=0)
    """Number of steps between the rows of the contact sheet; 0 draws only the last one."""
    diagnose_every: int = Field(default=0, ge=0)
    """Number of steps between the rows of diagnostics.csv, which compare the LoRA, or the pool,
    with the scene's exact noise predictions and take some ten seconds each time; 0 writes none."""
    tensorboard: bool = False
    """Whether to write TensorBoard event files too."""


@section
class Measure:
    """How a finished scene is measured. Compare numbers only between runs with equal settings."""

    views: int = Field(default=16, ge=8, le=64)
    """Number of views, evenly spaced in azimuth, and of pose bins. With fewer than 12, several
    faces may be counted as one wide face."""
    elevation: float = Field(default=15.0, ge=-89, le=89)
    """Elevation of these views above the horizon, in degrees."""
    judge: bool | None = None
    """Whether the teacher judges how many faces the scene has, if the truth is not known. It says
    which of its view words fits each view best, and its agreement with pictures of figurines is
    measured too: 2304 passes through the network with 16 views. Null judges if the run draws four
    times as many views, as the judge then takes a few per cent of its time."""


@section
class Export:
    """The files that a finished run leaves behind."""

    formats: tuple[Annotated[str, OneOf(EXPORTERS)], ...] = ("ply",)
    """Scene files to write; the list may be empty. All formats except ply round the values, and
    splat leaves out the view-dependent colours."""
    video: Literal["mp4", "gif", "both"] = "mp4"
    """Format of the turntable video."""
    frames: int = Field(default=72, ge=0)
    """Number of frames of the turntable video, one turn in all; 0 makes no video."""
    fps: int = Field(default=24, ge=1, le=120)
    """Frames per second of the turntable video."""
    size: int | None = Field(default=None, ge=8, le=4096)
    """Width and height of the turntable and of the contact sheet's last row, in pixels; null takes
    512, or cameras.size if that is larger. Earlier rows have cameras.size."""
    elevation: float = Field(default=15.0, ge=-89, le=89)
    """Elevation of the cameras of the turntable and the contact sheet above the horizon, in
    degrees."""
    report: bool = True
    """Whether to write report.html, which shows all the results of the run on one page."""
    sheet_views: int = Field(default=8, ge=1)
    """Number of views on a contact sheet, evenly spaced in azimuth."""


@section
class Config:
    """One run, from the prompt to the files. The defaults fit a laptop and the embedded teacher."""

    prompt: str
    """Description of the object to make."""
    negative_prompt: str = ""
    """What the scene should not look like. Empty text gives the teacher's own unconditional
    prediction. At teacher.guidance_scale 1, only Perp-Neg and losses that need it use this."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of every random draw. The same seed gives the same scene on the same machine."""
    steps: int = Field(default=600, ge=1)
    """Number of optimizer steps."""
    batch: int = Field(default=4, ge=1)
    """Number of views per step."""
    out: str | None = None
    """Folder to write to; null is outputs/<prompt>-s<seed>."""
    resume: bool = False
    """Whether to continue an unfinished run in that folder. If the run is finished, this writes
    the results that export and measure ask for and that are still missing."""
    overwrite: bool = False
    """Whether to replace a run in that folder. It is kept until the new run has made a step."""
    checkpoint_every: int = Field(default=100, ge=0)
    """Number of steps between checkpoints; 0 writes one only at the end and when interrupted."""
    view: bool = False
    """Whether to show the run in a browser on this machine while it goes: the scene, what the
    networks predict, and buttons to pause, save and stop. It changes no bit of what is made."""
    view_port: int = Field(default=8080, ge=0, le=65535)
    """Port of that page on 127.0.0.1; 0 takes any free port."""
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        json_schema_extra={"x-expected": "one of auto, cpu, cuda, cuda:N, mps"},
    )
    """Device of the networks; auto takes CUDA if there is a GPU, and else the CPU. ROCm is called
    cuda too. mps is Apple's GPU."""
    precision: Literal["32", "16-mixed", "bf16-mixed"] = "32"
    """Precision of the networks, in bits; the scene itself is always float32."""
    backend: Literal["auto", "reference", "cpu", "gsplat"] = "auto"
    """Renderer of the Gaussians; auto takes gsplat on CUDA if its kernels load, else our own
    kernels on the CPU (cpu) if they are compiled, also for networks on a GPU, and else the PyTorch
    reference."""
    background: Literal["random", "white", "grey", "black"] = "random"
    """Colour behind the scene while it is optimized; random draws one for each view."""
    version: int = VERSION
    """Version of the config format."""
    loss: Annotated[ScoreDistillation, Plugin(LOSSES, "esd")] = Esd()
    """The loss, which combines the predictions of the teacher and the LoRA into a gradient."""
    teacher: Annotated[TeacherConfig, Plugin(TEACHERS, "stable_diffusion")] = StableDiffusion()
    """The text-to-image model. The views should become images that are likely under it."""
    memory: Memory = Memory()
    """Settings that save memory."""
    lora: Lora = Field(default=Lora(), json_schema_extra={"x-formerly": "particle"})
    """How the scene's LoRA is built and trained."""
    pool: Pool = Pool()
    """Which views are pooled, and how far the influence of each one reaches."""
    clamp: Clamp = Clamp()
    """Limits of the gradient on the latents."""
    image_loss: float = Field(default=0.0, ge=0)
    """Weight of the same loss on pixels instead of latents (HiFA, arXiv:2305.18766). It costs a
    pass through the VAE decoder. HiFA uses 0.01 to 0.1; 0 switches it off."""
    latent_warmup: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the run, from its start, in which a linear map of colours replaces the VAE
    encoder. The map is fitted to the encoder at the start. It saves the pass through the encoder,
    but carries no detail. 0 switches it off."""
    timesteps: TimestepRange = TimestepRange()
    """Which timesteps are drawn over the course of a run, and how each is weighted."""
    cameras: Orbit = Orbit()
    """The cameras that the views are rendered from."""
    optim: Optim = Optim()
    """Settings of the optimizer."""
    regularise: Regularise = Regularise()
    """Weights of the penalties on the scene itself."""
    densify: Annotated[Densifier, Plugin(DENSIFIERS, "clone_split")] = CloneSplit()
    """How Gaussians are added and removed."""
    init: Annotated[Initialiser, Plugin(INITIALISERS, "ball")] = Ball()
    """The Gaussians to start from."""
    measure: Measure = Measure()
    """How a finished scene is measured."""
    log: Log = Log()
    """What a run logs while it goes."""
    export: Export = Export()
    """The files that a finished run leaves behind."""

    def __post_init__(self) -> None:
        problems: list[str] = []
        if not self.prompt.strip():
            problems.append('prompt: must not be empty; say what to make, as prompt="a red owl"')
        problems += [
            f"{key}: must be text in UTF-8, got {text!a}"
            for key, text in (("prompt", self.prompt), ("negative_prompt", self.negative_prompt))
            if re.search(r"[\ud800-\udfff]", text)
        ]
        if self.out is not None and not self.out.strip():
            problems.append("out: must name a folder, or be null")
        if self.resume and self.overwrite:
            problems.append("overwrite: cannot be true together with resume; choose one")
        trained = not self.loss.needs.isdisjoint(LORA_INPUTS)
        pooled = "pooled" in self.loss.needs or (trained and self.lora.uses_recent)
        if pooled and self.pool.views < self.batch:
            most = self.pool.views
            problems.append(f"batch: must be at most pool.views, {most}, got {self.batch}")
        if self.lora.base == "pool" and "lora_empty" in self.loss.needs:
            problems.append(
                "lora.base: must be teacher with loss.null_text=empty, as the pool takes no text"
            )
        if self.memory.compile and trained and self.lora.precision == "32":
            problems.append(
                "lora.precision: must be network with memory.compile=true, as a compiled network "
                "computes in one precision"
            )
        guided = {
            "views.perp_neg.enabled": self.teacher.views.perp_neg.enabled,
            "guidance_rescale": self.teacher.guidance_rescale > 0,
        }
        problems += [
            f"teacher.{key}: must be off with this loss, which has a guidance of its own"
            for key, on in guided.items()
            if on and "teacher" not in self.loss.needs
        ]
        null = (0, "above 0")
        untrained = {"lora_null": null, "lora_empty": null, "lora": (1, "below 1")}
        problems += [
            f"lora.camera_dropout: must be {what} with this loss, or it would ask for a "
            f"prediction that is never trained; got {self.lora.camera_dropout:g}"
            for name, (probability, what) in untrained.items()
            if name in self.loss.needs and self.lora.camera_dropout == probability
        ]
        if self.version != VERSION:
            age = "a newer" if self.version > VERSION else "an unknown"
            problems.append(
                f"version: {self.version} is of {age} esd_splat; this one reads {VERSION}"
            )
        refuse(problems)

    @property
    def folder(self) -> Path:
        """Where this run writes: ``out``, or ``outputs/<slug of the prompt>-s<seed>``."""
        return expanded(self.out or f"outputs/{_slug(self.prompt)}-s{self.seed}")


def load_config(path: Path | str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Load and validate the config that a YAML file and ``key=value`` overrides describe.

    The overrides take precedence over the file, and the file over the defaults.

    Args:
        path: Path of a YAML file. If there is no such file, the shipped config of that name
            (``esd``, ``esd.yaml`` and ``configs/esd.yaml`` are the same one). ``None`` stands for
            an empty file.

    Raises:
        ConfigError: If anything is wrong. The message names all problems.
    """
    text, problems = read_config(path)
    return load(Config, text, overrides, source=source_name(path), problems=problems)


def unused(config: Config, overrides: Sequence[str]) -> list[Problem]:
    """Return the keys among ``overrides`` that set a LoRA which the loss does not have.

    A file may have such keys, as its loss can be overridden, but typing one is a mistake.
    """
    if not config.loss.needs.isdisjoint(LORA_INPUTS):
        return []
    typed = [override.partition("=")[0].strip() for override in overrides]
    message = "sets a LoRA and this loss trains none; use a loss with a LoRA, such as loss=vsd"
    return [Problem(key, message) for key in typed if key.split(".")[0] in ("lora", "particle")]


def _slug(prompt: str, limit: int = 60) -> str:
    """Return ``prompt`` as a file name of ASCII letters, digits and dashes."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    if words and len(words) <= limit and prompt.isascii():
        return words
    # The digest keeps prompts apart that differ only in what was cut off or is not ASCII.
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:8]
    return f"{words[:limit].rstrip('-')}-{digest}".lstrip("-")
