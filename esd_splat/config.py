"""The whole configuration of a run, assembled from the dataclasses that its parts configure.

What runs as a whole reads it; the parts are given their own sections.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from esd_splat.distill.lora import Particle
from esd_splat.distill.losses import LOSSES, Clamp, Regularise, ScoreDistillation
from esd_splat.distill.pool import Pool
from esd_splat.errors import Problem, check
from esd_splat.files import expanded
from esd_splat.formats import EXPORTERS
from esd_splat.init import INITIALISERS, Initialiser
from esd_splat.run.measure import Measure
from esd_splat.scene.cameras import Orbit
from esd_splat.scene.densify import DENSIFIERS, Densifier
from esd_splat.scene.optim import Optim
from esd_splat.structured import load, plugin
from esd_splat.teacher import TEACHERS, Memory, TeacherConfig
from esd_splat.teacher.noise import TimestepRange

VERSION = 1
"""Of the format below. A change that reads an old file differently adds one."""

MAX_SEED = 2**28 - 1
"""What a step draws comes from generators seeded by 16 times this and a number below 16, and
torch's for the CPU reads 32 bits of that."""

CONFIG_FOLDERS = (Path(__file__).parent / "configs", Path(__file__).parent.parent / "configs")
"""Where the shipped configs lie: in an installed package, in a checkout."""


@dataclass(frozen=True)
class Log:
    """What a run writes down while it goes."""

    every: int = 10
    """Steps between the rows of metrics.csv, at least 1."""
    sheet_every: int = 0
    """Steps between contact sheets of the unfinished scene; 0 draws only the last one."""
    diagnose_every: int = 0
    """Steps between the rows of diagnostics.csv, which compare the particle, or the pool, with the
    scene's exact noise predictions, and take some ten seconds each time; 0 writes none."""
    tensorboard: bool = False
    """Whether to write TensorBoard event files too."""

    def __post_init__(self) -> None:
        checks = {
            "every": (self.every >= 1, "at least 1"),
            "sheet_every": (self.sheet_every >= 0, "at least 0"),
            "diagnose_every": (self.diagnose_every >= 0, "at least 0"),
        }
        check(self, checks)


@dataclass(frozen=True)
class Export:
    """The files that a finished run leaves behind."""

    formats: tuple[str, ...] = ("ply",)
    """Kinds of scene file, any of the exporters; the list may be empty. All but ply round, and
    splat leaves out what depends on the view."""
    video: Literal["mp4", "gif", "both"] = "mp4"
    """Format of the turntable video."""
    frames: int = 72
    """Frames of the turntable video, one turn in all; 0 makes none."""
    fps: int = 24
    """Frames of the turntable video per second, 1 to 120."""
    size: int | None = None
    """Width and height of turntable and contact sheet views, 8 to 4096 pixels; null takes
    cameras.size."""
    elevation: float = 15.0
    """Of the turntable's and contact sheet's cameras, degrees above the horizon, -89 to 89."""
    report: bool = True
    """Whether to write report.html, all that the run leaves on one page; seconds."""
    sheet_views: int = 8
    """Views on a contact sheet, evenly spaced in azimuth, at least 1."""

    def __post_init__(self) -> None:
        checks = {
            "frames": (self.frames >= 0, "at least 0"),
            "fps": (1 <= self.fps <= 120, "in [1, 120]"),
            "size": (self.size is None or 8 <= self.size <= 4096, "in [8, 4096]"),
            "elevation": (-89 <= self.elevation <= 89, "in [-89, 89]"),
            "sheet_views": (self.sheet_views >= 1, "at least 1"),
        }
        allowed = ", ".join(sorted(EXPORTERS))
        unknown = [
            f"formats: must be of {allowed}, got {name!r}"
            for name in self.formats
            if name not in EXPORTERS
        ]
        check(self, checks, unknown)


@dataclass(frozen=True)
class Config:
    """One run, from prompt to files. The defaults fit a laptop and the embedded teacher."""

    prompt: str
    """What to make."""
    negative_prompt: str = ""
    """What to stay away from; empty text is the teacher's own unconditional prediction. At
    teacher.guidance_scale 1 neither counts, but with Perp-Neg, and for losses that ask for them."""
    seed: int = 0
    """Of every random draw, 0 to 2^28 - 1; the same seed gives the same scene on the same
    machine."""
    steps: int = 600
    """Optimizer steps, at least 1."""
    batch: int = 4
    """Views per step, at least 1."""
    out: str | None = None
    """Folder to write to; null is outputs/<prompt>-s<seed>."""
    resume: bool = False
    """Whether to go on with an unfinished run in that folder, or to write what export and measure
    ask for besides of a finished one."""
    overwrite: bool = False
    """Whether to replace a run in that folder, once the new one has made a step."""
    checkpoint_every: int = 100
    """Steps between checkpoints; 0 writes one only at the end and when interrupted."""
    view: bool = False
    """Whether to show the run in a browser on this machine while it goes: the scene, what the
    networks predict, and buttons to pause, save and stop. It changes no bit of what is made."""
    view_port: int = 8080
    """Port of that page on 127.0.0.1, 0 to 65535; 0 takes any that is free."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA where there is one."""
    precision: Literal["32", "16-mixed", "bf16-mixed"] = "32"
    """Of the networks' arithmetic, bits; the scene itself is always float32."""
    backend: Literal["auto", "reference", "cpu", "gsplat"] = "auto"
    """What draws the Gaussians; auto takes gsplat on CUDA, our own kernels (cpu) on the CPU
    where they are compiled, and the reference elsewhere."""
    background: Literal["random", "white", "grey", "black"] = "random"
    """Colour behind the scene while it is optimized; random draws one for every view."""
    version: int = VERSION
    """Of the format of this config."""
    loss: ScoreDistillation = plugin(LOSSES, default="esd")
    """What the teacher's and the particle's predictions ask of the views."""
    teacher: TeacherConfig = plugin(TEACHERS, default="stable_diffusion")
    """The text-to-image model whose likely images the views should become."""
    memory: Memory = field(default_factory=Memory)
    particle: Particle = field(default_factory=Particle)
    pool: Pool = field(default_factory=Pool)
    clamp: Clamp = field(default_factory=Clamp)
    image_loss: float = 0.0
    """Weight of the same pull on pixels instead of latents, at least 0 (HiFA, arXiv:2305.18766). It
    costs a pass through the decoder. Theirs is 0.01 to 0.1; 0 is off."""
    latent_warmup: float = 0.0
    """Share of the run, in [0, 1], in whose steps a linear map of colours stands in for the VAE's
    encoder, fitted on it at the start: no pass through the encoder, and no detail. 0 is off."""
    timesteps: TimestepRange = field(default_factory=TimestepRange)
    cameras: Orbit = field(default_factory=Orbit)
    optim: Optim = field(default_factory=Optim)
    regularise: Regularise = field(default_factory=Regularise)
    densify: Densifier = plugin(DENSIFIERS, default="clone_split")
    """How Gaussians are added and removed."""
    init: Initialiser = plugin(INITIALISERS, default="ball")
    """The Gaussians to start from."""
    measure: Measure = field(default_factory=Measure)
    log: Log = field(default_factory=Log)
    export: Export = field(default_factory=Export)

    def __post_init__(self) -> None:
        checks = {
            "seed": (0 <= self.seed <= MAX_SEED, f"in [0, {MAX_SEED}]"),
            "steps": (self.steps >= 1, "at least 1"),
            "batch": (self.batch >= 1, "at least 1"),
            "checkpoint_every": (self.checkpoint_every >= 0, "at least 0"),
            "view_port": (0 <= self.view_port <= 65535, "in [0, 65535]"),
            "image_loss": (0 <= self.image_loss < math.inf, "at least 0 and finite"),
            "latent_warmup": (0 <= self.latent_warmup <= 1, "a share of the run in [0, 1]"),
        }
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
            f"teacher: {key} must be off with this loss, which has a guidance of its own"
            for key, on in guided.items()
            if on and "teacher" not in self.loss.needs
        ]
        untrained = {"particle_uncond": (0, "above 0"), "particle": (1, "below 1")}
        problems += [
            f"particle: camera_dropout must be {what} with this loss, which asks for what would "
            f"never be trained, got {self.particle.camera_dropout:g}"
            for name, (share, what) in untrained.items()
            if name in self.loss.needs and self.particle.camera_dropout == share
        ]
        if self.version != VERSION:
            age = "a newer" if self.version > VERSION else "an unknown"
            problems.append(
                f"version: {self.version} is of {age} esd_splat; this one reads {VERSION}"
            )
        check(self, checks, problems)

    @property
    def folder(self) -> Path:
        """Where this run writes: ``out``, or ``outputs/<slug of the prompt>-s<seed>``."""
        return expanded(self.out or f"outputs/{_slug(self.prompt)}-s{self.seed}")


def load_config(path: Path | str | None = None, overrides: Sequence[str] = ()) -> Config:
    """The config that a YAML file and ``key=value`` overrides describe, validated.

    Precedence: defaults, then the file, then the overrides.

    Args:
        path: of a YAML file; where there is none, the shipped config of that name (``esd``,
            ``esd.yaml`` and ``configs/esd.yaml`` are the same one). ``None`` is an empty file.

    Raises:
        ConfigError: naming everything that is wrong.
    """
    if path is None:
        return load(Config, "", overrides, source="command line")
    problems: list[Problem] = []
    text = ""
    found = find_config(path)
    try:
        text = found.read_text(encoding="utf-8-sig") if found else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text in UTF-8"
        problems.append(Problem("--config", f"cannot be read: {reason}"))
    if found is None:
        shipped = ", ".join(sorted(shipped_configs()))
        message = f"there is no such file, and no shipped config of that name; shipped: {shipped}"
        problems.append(Problem("--config", message))
    return load(Config, text, overrides, source=str(path), problems=problems)


def shipped_configs() -> dict[str, Path]:
    """The configs that come with the package, by name."""
    folder = next((f for f in CONFIG_FOLDERS if f.is_dir()), None)
    return {file.stem: file for file in folder.glob("*.yaml")} if folder else {}


def find_config(path: Path | str) -> Path | None:
    """The file at ``path``, else the shipped config of that name, else ``None``."""
    path = Path(path)
    if path.exists():
        return path
    if path.parent in (Path(), Path("configs")) and path.suffix in ("", ".yaml"):
        return shipped_configs().get(path.stem)
    return None


def _slug(prompt: str, limit: int = 60) -> str:
    """``prompt`` as a file name of ASCII letters, digits and dashes."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    if words and len(words) <= limit and prompt.isascii():
        return words
    # What was cut off, or is not ASCII, still tells two prompts apart.
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:8]
    return f"{words[:limit].rstrip('-')}-{digest}".lstrip("-")
