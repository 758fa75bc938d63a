"""The whole configuration of a run, assembled from the dataclasses that its parts configure.

What runs as a whole reads it; the parts are given their own sections.
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
from esd_splat.errors import refuse
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
"""Of the format below. A change that reads an old file differently adds one."""

MAX_SEED = 2**28 - 1
"""What a step draws comes from generators seeded by 16 times this and a number below 16, and
torch's for the CPU reads 32 bits of that."""


@section
class Log:
    """What a run writes down while it goes."""

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
    """How a finished scene is measured. Numbers compare only between equal settings."""

    views: int = Field(default=16, ge=8, le=64)
    """Number of views, at equal steps of azimuth, and of pose bins. With fewer than 12, several
    faces may be counted as one that is too wide, which is Janus all the same."""
    elevation: float = Field(default=15.0, ge=-89, le=89)
    """Elevation of those views above the horizon, in degrees."""


@section
class Export:
    """The files that a finished run leaves behind."""

    formats: tuple[Annotated[str, OneOf(EXPORTERS)], ...] = ("ply",)
    """Scene files to write; the list may be empty. All but ply round, and splat leaves out what
    depends on the view."""
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
    """Elevation of the cameras of turntable and contact sheet above the horizon, in degrees."""
    report: bool = True
    """Whether to write report.html, which shows all that the run leaves on one page."""
    sheet_views: int = Field(default=8, ge=1)
    """Number of views on a contact sheet, evenly spaced in azimuth."""


@section
class Config:
    """One run, from the prompt to the files. The defaults fit a laptop and the embedded teacher."""

    prompt: str
    """What to make."""
    negative_prompt: str = ""
    """What to stay away from; empty text is the teacher's own unconditional prediction. At
    teacher.guidance_scale 1, only Perp-Neg and the losses that ask for them use the two."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of every random draw. The same seed gives the same scene on the same machine."""
    steps: int = Field(default=600, ge=1)
    """Number of optimizer steps."""
    batch: int = Field(default=4, ge=1)
    """Number of views per step."""
    out: str | None = None
    """Folder to write to; null is outputs/<prompt>-s<seed>."""
    resume: bool = False
    """Whether to go on with an unfinished run in that folder. Of a finished one, it writes what
    else export and measure ask for."""
    overwrite: bool = False
    """Whether to replace a run in that folder, once the new one has made a step."""
    checkpoint_every: int = Field(default=100, ge=0)
    """Number of steps between checkpoints; 0 writes one only at the end and when interrupted."""
    view: bool = False
    """Whether to show the run in a browser on this machine while it goes: the scene, what the
    networks predict, and buttons to pause, save and stop. It changes no bit of what is made."""
    view_port: int = Field(default=8080, ge=0, le=65535)
    """Port of that page on 127.0.0.1; 0 takes any that is free."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA where there is a GPU."""
    precision: Literal["32", "16-mixed", "bf16-mixed"] = "32"
    """Precision of the networks, in bits; the scene itself is always float32."""
    backend: Literal["auto", "reference", "cpu", "gsplat"] = "auto"
    """What draws the Gaussians; auto takes gsplat on CUDA, our own kernels (cpu) on the CPU where
    they are compiled, and the PyTorch reference elsewhere."""
    background: Literal["random", "white", "grey", "black"] = "random"
    """Colour behind the scene while it is optimized; random draws one for every view."""
    version: int = VERSION
    """Version of the format of this config."""
    loss: Annotated[ScoreDistillation, Plugin(LOSSES, "esd")] = Esd()
    """What the predictions of the teacher and the LoRA ask of the views."""
    teacher: Annotated[TeacherConfig, Plugin(TEACHERS, "stable_diffusion")] = StableDiffusion()
    """The text-to-image model whose likely images the views should become."""
    memory: Memory = Memory()
    """What saves memory."""
    lora: Lora = Field(default=Lora(), json_schema_extra={"x-formerly": "particle"})
    """How the scene's LoRA is built and trained."""
    pool: Pool = Pool()
    """Which views are pooled, and how far each of them reaches."""
    clamp: Clamp = Clamp()
    """Limits of the gradient on the latents."""
    image_loss: float = Field(default=0.0, ge=0)
    """Weight of the same pull on pixels instead of latents (HiFA, arXiv:2305.18766). It costs a
    pass through the decoder. HiFA uses 0.01 to 0.1; 0 switches it off."""
    latent_warmup: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the run in whose steps a linear map of colours stands in for the VAE's encoder.
    The map is fitted to the encoder at the start; it costs no pass through the encoder, and shows
    no detail. 0 switches it off."""
    timesteps: TimestepRange = TimestepRange()
    """Which timesteps are drawn as a run goes on, and how much each counts."""
    cameras: Orbit = Orbit()
    """Where the views are taken from."""
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
    """What a run writes down while it goes."""
    export: Export = Export()
    """The files that a finished run leaves behind."""

    def __post_init__(self) -> None:
        problems: list[str] = []
        if not self.prompt.strip():
            problems.append('prompt: must not be empty; say what to make, as prompt="a red owl"')
        if re.search(r"[\ud800-\udfff]", self.prompt):
            problems.append(f"prompt: must be text in UTF-8, got {self.prompt!a}")
        if self.out is not None and not self.out.strip():
            problems.append("out: must name a folder, or be null")
        if self.resume and self.overwrite:
            problems.append("overwrite: cannot be true together with resume; choose one")
        if "pooled" in self.loss.needs and self.pool.views < self.batch:
            most = self.pool.views
            problems.append(f"batch: must be at most pool.views, {most}, got {self.batch}")
        guided = {
            "views.perp_neg.enabled": self.teacher.views.perp_neg.enabled,
            "guidance_rescale": self.teacher.guidance_rescale > 0,
        }
        problems += [
            f"teacher.{key}: must be off with this loss, which has a guidance of its own"
            for key, on in guided.items()
            if on and "teacher" not in self.loss.needs
        ]
        untrained = {"lora_null": (0, "above 0"), "lora": (1, "below 1")}
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
    """The config that a YAML file and ``key=value`` overrides describe, validated.

    The overrides win over the file, and the file wins over the defaults.

    Args:
        path: of a YAML file; where there is none, the shipped config of that name (``esd``,
            ``esd.yaml`` and ``configs/esd.yaml`` are the same one). ``None`` is an empty file.

    Raises:
        ConfigError: naming everything that is wrong.
    """
    text, problems = read_config(path)
    return load(Config, text, overrides, source=source_name(path), problems=problems)


def _slug(prompt: str, limit: int = 60) -> str:
    """``prompt`` as a file name of ASCII letters, digits and dashes."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    if words and len(words) <= limit and prompt.isascii():
        return words
    # What was cut off, or is not ASCII, still tells two prompts apart.
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:8]
    return f"{words[:limit].rstrip('-')}-{digest}".lstrip("-")
