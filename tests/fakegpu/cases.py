"""The real step on a GPU that is not there, in any combination of what a config can ask for."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import torch
from torch import nn

from esd_splat.config import Config, load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.losses import LOSSES
from esd_splat.distill.step_config import StepConfig
from esd_splat.run.trainer import DTYPES
from esd_splat.scene import kernels
from esd_splat.teacher import latent
from esd_splat.teacher.families import Family
from esd_splat.teacher.loading import quiet
from esd_splat.teacher.parts import Source
from esd_splat.teacher.random_weights import build_parts
from esd_splat.teacher.stable_diffusion import EMBEDDED_FOLDER
from tests.fakegpu.counts import Counts
from tests.fakegpu.cover import cover
from tests.fakegpu.device import CUDA, TOGETHER, fake_gpu
from tests.tiny import IMAGE_SIZE

Case = Mapping[str, str]
"""A choice for each of some factors."""
Plant = Callable[[Distillation], None]

ESD = "loss={{name: esd, entropy_weight: 0.5, camera: {}, marginal: {}}}"
VIEWS = ("teacher.views.enabled=true", "teacher.guidance_scale=7.5")
LORA = ("lora.rank=2", "lora.layers=attention")
FACTORS: dict[str, dict[str, tuple[str, ...]]] = {
    "family": dict.fromkeys(("sd", "sd-v", "sdxl", "sd3", "multi-view", "figurines"), ()),
    "loss": {name: (f"loss={name}",) for name in LOSSES} | {"esd": (ESD.format("lora", "pool"),)},
    "precision": {name: (f"precision={name}",) for name in DTYPES},
    "views at once": {"all": (), "one": ("memory.views_at_once=1",)},
    "checkpointing": {"no": (), "yes": ("memory.checkpointing=true",)},
    "slicing": {"no": (), "yes": ("memory.slicing=true",)},
    "offload": {"no": (), "yes": ("memory.offload=true",)},
    "guidance": {
        "none": (),
        "scale": VIEWS,
        "Perp-Neg": (*VIEWS, "teacher.views.perp_neg.enabled=true"),
        "rescaled": (*VIEWS, "teacher.guidance_rescale=0.7", "negative_prompt=a cat"),
    },
    "images": {"VAE": (), "linear map": ("latent_warmup=1",), "pixels": ("image_loss=0.1",)},
    "LoRA": {
        "plain": LORA,
        "all": ("lora.rank=2", "lora.camera=pose", "lora.timesteps=loss", "lora.weighting=v"),
        "in float32": (*LORA, "lora.precision=32"),
        "on the pool": (*LORA, "lora.base=pool", "lora.replay=1", "lora.steps=2"),
    },
    "scene": {
        "plain": (),
        "penalties": (
            *("init.sh_degree=3", "optim.max_norm=1", "clamp.start=1", "clamp.end=0.5"),
            "regularise={opacity: 1, scale: 1, sparsity: 1, binary: 1}",
        ),
    },
    "densify": {
        "none": ("densify=none",),
        "clone_split": ("densify=clone_split",),
        "mcmc": ("densify=mcmc",),
    },
    "kernels": {"torch": (), "ours": ()},
}
"""What a step depends on, with the choices for each factor and the keys that make them. Left out is
``memory.compile``, as what is compiled cannot be watched."""


def clash(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two choices, each a factor and its value, are refused together."""
    both = dict((one, other))
    if both.get("family") == "multi-view" and both.get("views at once") == "one":
        return True
    own = both.get("loss") in LOSSES and "teacher" not in LOSSES[both["loss"]]().needs
    return own and both.get("guidance") in ("Perp-Neg", "rescaled")


CHOICES = {factor: list(values) for factor, values in FACTORS.items()}
CASES = cover(CHOICES, clash)


def config_of(case: Case, *more: str) -> Config:
    """Return the config of a case. Factors that it does not name have their first value, and keys
    in ``more`` take the place of the case's."""
    keys = ["prompt=a red owl", "backend=gsplat", f"batch={TOGETHER}", "steps=100"]
    keys += [f"cameras.size={IMAGE_SIZE}", "init.count=30"]
    for factor, values in FACTORS.items():
        keys += values[case.get(factor, next(iter(values)))]
    replaced = {key.partition("=")[0] for key in more}
    kept = [key for key in keys if key.partition("=")[0] not in replaced]
    return load_config(None, [*kept, *more])


@dataclass
class Result:
    """A run after some steps, and what the last of them cost."""

    run: Distillation
    config: Config
    counts: Counts


def step(case: Case, *more: str, steps: int = 1, plant: Plant | None = None) -> Result:
    """Make some steps with tiny networks of the case's family, and count in the last one.

    Args:
        case: the choices.
        more: further keys of the config.
        steps: how many steps.
        plant: what to change before the first of them.
    """
    config = config_of(case, *more)
    family, parts = _tiny(case.get("family", "sd"), config.precision)
    native = case.get("kernels") == "ours"
    with fake_gpu() as counts, mock.patch.object(kernels, "has", return_value=native):
        # Weights are checked when they are loaded, by many small operators.
        with mock.patch.object(latent, "_check_finite"):
            dtype = DTYPES[config.precision]
            parts = {name: _copied(part) for name, part in parts.items()}
            teacher = family.build(parts, CUDA, dtype, config.memory)
        run = Distillation(StepConfig.of(config), teacher, config.backend)
        if plant is not None:
            plant(run)
        for _ in range(steps):
            counts.start()
            run.step()
    return Result(run, config, counts)


@cache
def _tiny(name: str, precision: str) -> tuple[Family, dict[str, Any]]:
    """Return a family and parts on the fake GPU, which all cases share, as placing them is slow."""
    if name == "figurines":
        family, parts, _ = Source("", str(EMBEDDED_FOLDER), "").load(DTYPES[precision])
    else:
        shape = {"sd-v": "sd", "multi-view": "views"}.get(name, name)
        predicts = "v_prediction" if name == "sd-v" else None
        with torch.random.fork_rng(devices=[]):
            family, parts = build_parts(f"tiny-{shape}", t5=True, predicts=predicts)
    rounded(parts, DTYPES[precision])
    with fake_gpu():
        for part in parts.values():
            if isinstance(part, nn.Module):
                part.to(CUDA)
    return family, parts


def rounded(parts: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Convert the networks among ``parts`` in place, as loading would."""
    with quiet():
        for part in parts.values():
            if isinstance(part, nn.Module):
                part.to(dtype)
    return parts


def _copied(part: Any) -> Any:
    """Return a copy of a network that shares its weights, but can get a LoRA of its own."""
    if not isinstance(part, nn.Module):
        return part
    return copy.deepcopy(part, {id(x): x for x in (*part.parameters(), *part.buffers())})
