"""Parts that do not belong together, weights that are not finite, and texts that are too long."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from esd_splat.distill.guidance import Guidance
from esd_splat.errors import EsdSplatError, PromptError, TeacherError
from esd_splat.teacher import StableDiffusion
from esd_splat.teacher.latent import LatentTeacher
from esd_splat.teacher.random_weights import SHAPES, save_blank
from esd_splat.teacher.view_prompts import ViewPrompts

CPU = torch.device("cpu")


def _load(folder: Path, dtype: torch.dtype = torch.float32) -> LatentTeacher:
    config = StableDiffusion(model=str(folder))
    config.check({})
    teacher = config.load(CPU, dtype)
    assert isinstance(teacher, LatentTeacher)
    return teacher


def _refused(folder: Path, dtype: torch.dtype = torch.float32) -> str:
    with pytest.raises(TeacherError) as caught:
        _load(folder, dtype)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _change(folder: Path, part: str, change: Any) -> None:
    (file,) = (folder / part).glob("*.safetensors")
    save_file({k: change(k, w) for k, w in load_file(file).items()}, file, {"format": "pt"})


def test_parts_saved_in_different_precisions_are_loaded_in_one(tmp_path: Path) -> None:
    folder = save_blank(tmp_path / "model", "tiny-sd")
    _change(folder, "unet", lambda key, weight: weight.half())
    _change(folder, "vae", lambda key, weight: weight.bfloat16())
    for dtype in (torch.float32, torch.bfloat16):
        teacher = _load(folder, dtype)
        networks = (teacher.network, teacher._vae, teacher._text)  # pyright: ignore
        assert {p.dtype for network in networks for p in network.parameters()} == {dtype}
        latents = teacher.encode(torch.rand(1, 3, 16, 16))
        eps = teacher.eps(latents, torch.tensor([5]), teacher.embed(["a cat"]))
        assert eps.dtype == torch.float32


FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
DDIM = {"_class_name": "DDIMScheduler", "beta_start": 0.001, "beta_end": 0.01}
EDM = {"_class_name": "EDMEulerScheduler", "sigma_min": 0.002, "sigma_max": 80.0}


@pytest.mark.parametrize(
    ("family", "scheduler", "why"),
    [
        ("sd", FLOW, "it is a FlowMatchEulerDiscreteScheduler, but Stable Diffusion was"),
        ("sd", EDM, "it is a EDMEulerScheduler, without the betas that Stable Diffusion was"),
        ("sd3", DDIM, "it is a DDIMScheduler, but Stable Diffusion 3 was trained with a FlowM"),
        ("sd", DDIM | {"beta_schedule": "none"}, "none is not implemented"),
    ],
)
def test_noise_levels_of_another_kind_are_refused(
    tmp_path: Path, family: str, scheduler: dict[str, Any], why: str
) -> None:
    """diffusers would ignore what it does not know, and use its defaults."""
    folder = save_blank(tmp_path / "model", f"tiny-{family}")
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    message = _refused(folder)
    assert "cannot load the scheduler" in message
    assert why in message


@pytest.mark.parametrize(
    ("family", "encoder", "keys", "why"),
    [
        ("sd", 0, {"hidden_size": 24}, "make 24 values per token, but its network takes 16"),
        ("sdxl", 0, {"hidden_size": 24}, "make 48 values per token, but its network takes 40"),
        (
            "sdxl",
            1,
            {"projection_dim": 8},
            "second text encoder makes 8 pooled values, but its network takes 12",
        ),
        (
            "sd3",
            1,
            {"projection_dim": 8},
            "text encoders make 24 pooled values, but its network takes 28",
        ),
        ("sd3", 2, {"d_model": 40}, "T5 makes 40 values per token, but its network takes 48"),
    ],
)
def test_text_encoders_must_fit_the_network(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    encoder: int,
    keys: dict[str, int],
    why: str,
) -> None:
    shape = SHAPES[f"tiny-{family}"]
    encoders, t5 = list(shape.encoders), shape.t5
    if encoder < 2:
        encoders[encoder] = encoders[encoder] | keys
    else:
        t5 = (t5 or {}) | keys
    changed = dataclasses.replace(shape, encoders=tuple(encoders), t5=t5)
    monkeypatch.setitem(SHAPES, f"tiny-{family}", changed)
    folder = save_blank(tmp_path / "model", f"tiny-{family}", t5=encoder == 2)
    assert f"{why}; they are parts of different models" in _refused(folder)


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    """Also weights that overflow only in the requested precision."""
    folder, name = save_blank(tmp_path / "model", "tiny-sd"), "conv_out.bias"
    _change(folder, "unet", lambda key, weight: weight * 1e6 if key == name else weight)
    _load(folder)
    message = "in torch.float16 the weight conv_out.bias of its unet is not finite"
    assert message in _refused(folder, torch.float16)
    _change(folder, "unet", lambda key, weight: weight * torch.nan if key == name else weight)
    assert "in torch.float32 the weight conv_out.bias of its unet" in _refused(folder)


LONG = "a red owl a blue owl a red cat"
"""Nine words. With the start and end tokens there is room for one more word, but not for three."""


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3"])
def test_a_prompt_whose_view_words_would_be_cut_off_is_refused(tmp_path: Path, family: str) -> None:
    teacher = _load(save_blank(tmp_path / "model", f"tiny-{family}"))
    Guidance(StableDiffusion(), teacher, LONG, "")
    config = StableDiffusion(views=ViewPrompts(enabled=True))
    with pytest.raises(PromptError, match=r"has 14 tokens .* takes 12: 'front view' would be cut"):
        Guidance(config, teacher, LONG, "")


def test_what_is_too_long_for_clip_t5_still_reads(tmp_path: Path) -> None:
    teacher = _load(save_blank(tmp_path / "model", "tiny-sd3", t5=True))
    one, other = teacher.embed([f"{LONG}, front view", f"{LONG}, back view"])
    assert not torch.equal(one, other)
    with pytest.raises(EsdSplatError, match="this teacher takes 256"):
        teacher.embed(["owl " * 300])
