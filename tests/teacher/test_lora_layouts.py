"""Each layout of LoRA files, by its numbers: W + scale alpha / rank up down in every layer."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from esd_splat.errors import TeacherError
from esd_splat.teacher import StableDiffusion
from esd_splat.teacher.loading import quiet
from esd_splat.teacher.lora_files import find_lora
from esd_splat.teacher.parts import Loaded
from esd_splat.teacher.random_weights import save_blank
from tests.teacher.ldm import save_single_file

FAMILIES = ("sd", "sdxl", "sd3")
SCALE = 0.5
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("layouts")
    return {name: save_blank(root / name, f"tiny-{name}", t5=True) for name in FAMILIES}


def _load(model: Path, **more: str) -> Loaded:
    with quiet():
        return StableDiffusion(model=str(model), **more).source().load(torch.float32)  # pyright: ignore


def _weights(loaded: Loaded, prefix: str = "") -> Weights:
    """Return all weights by the names that diffusers' LoRAs use, with ``text_model`` left out."""
    return {
        f"{part}.{name.replace('text_model.', '')}": weight.detach().clone()
        for part, network in loaded.parts.items()
        if isinstance(network, nn.Module) and part.startswith(prefix)
        for name, weight in network.named_parameters()
    }


def _fuse(loaded: Loaded, file: Path, scale: float = SCALE) -> str:
    with quiet():
        return find_lora(f"{file}:{scale}").fuse(loaded.family, loaded.parts)


def _pair(shape: torch.Size, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return random up and down for weights of a linear layer, or of a convolution as in LoCon."""
    ones = (1,) * (len(shape) - 2)
    up = torch.randn(shape[0], rank, *ones, generator=generator)
    return up, torch.randn(rank, *shape[1:], generator=generator)


def _layers(loaded: Loaded, only: str = "") -> Iterator[tuple[str, str, torch.Size]]:
    """The linear layers and convolutions of all networks but the VAE: network, name, shape."""
    for part, network in loaded.parts.items():
        if isinstance(network, nn.Module) and part != "vae":
            for name, module in network.named_modules():
                if isinstance(module, (nn.Linear, nn.Conv2d)) and re.search(only, f"{part}.{name}"):
                    yield part, name.removeprefix("text_model."), module.weight.shape


def _whole(part: str, name: str) -> str:
    """Return the layer's name as diffusers' own LoRAs have it."""
    is_clip = part in ("text_encoder", "text_encoder_2") and name != "text_projection"
    return f"{part}.text_model.{name}" if is_clip else f"{part}.{name}"


def _kohya(part: str, name: str, start: str = "") -> str:
    number = part.removeprefix("text_encoder").strip("_") or "1"
    before = f"lora_te{number}" if part.startswith("text") else "lora_unet"
    return f"{before}_{start}{_whole(part, name).split('.', 1)[1].replace('.', '_')}"


def _old(part: str, name: str) -> str:
    """Return the name in the first versions of diffusers, which trained attention alone."""
    start, _, last = _whole(part, name).partition("self_attn." if "text" in part else "attn1.")
    if "text" in part:
        return f"{start}self_attn.to_{last.replace('_proj', '').replace('.', '_')}_lora"
    return f"{start}attn1.processor.{last.removesuffix('.0')}_lora"


ATTENTION = r"\.self_attn\.|unet.*attn1\."
LAYOUTS: dict[str, tuple[Callable[[str, str], str], str, str, str, str | None]] = {
    "kohya": (_kohya, "", ".lora_up.weight", ".lora_down.weight", ".alpha"),
    "kohya, compiled": (
        lambda part, name: _kohya(part, name, "" if "text" in part else "_orig_mod_"),
        *("", ".lora_up.weight", ".lora_down.weight", ".alpha"),
    ),
    "diffusers": (_whole, "", ".lora_B.weight", ".lora_A.weight", None),
    "diffusers with alpha": (_whole, "", ".lora_B.weight", ".lora_A.weight", ".alpha"),
    "diffusers, compiled": (
        lambda part, name: _whole(part, name).replace(".", "._orig_mod.", 1),
        *("", ".lora_B.weight", ".lora_A.weight", ".alpha"),
    ),
    "diffusers before peft": (_whole, "", ".lora.up.weight", ".lora.down.weight", None),
    "diffusers with processors": (_old, ATTENTION, ".up.weight", ".down.weight", ".alpha"),
    "adapter's name": (_whole, "", ".lora_B.default.weight", ".lora_A.default.weight", None),
    "no network's name": (
        lambda part, name: name,
        *(r"^unet\.|^transformer\.", ".lora_B.weight", ".lora_A.weight", ".alpha"),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_layer_gets_what_the_file_says(
    folders: dict[str, Path], tmp_path: Path, family: str, layout: str
) -> None:
    """Every linear layer and convolution, each of another rank and alpha, text encoders too."""
    naming, only, up_end, down_end, alpha_end = LAYOUTS[layout]
    loaded, generator = _load(folders[family]), torch.Generator().manual_seed(0)
    if layout == "diffusers with processors" and family == "sd3":
        only = r"\.self_attn\."
    known, weights, count = _weights(loaded), dict[str, Tensor](), 0
    for number, (part, name, shape) in enumerate(_layers(loaded, only)):
        rank, alpha = 1 + number % 4, 1 + number % 3 if alpha_end else None
        up, down = _pair(shape, rank, generator)
        layer = naming(part, name)
        weights |= {layer + up_end: up, layer + down_end: down}
        if alpha_end:
            weights[layer + alpha_end] = torch.tensor(float(alpha or 0))
        delta = (up.flatten(1).double() @ down.flatten(1).double()).view(shape)
        known[f"{part}.{name}.weight"] += (SCALE * (alpha or rank) / rank * delta).float()
        count += 1
    assert count > 3
    save_file(weights, tmp_path / "lora.safetensors")
    note = _fuse(loaded, tmp_path / "lora.safetensors")
    assert sum(int(number) for number in re.findall(r"(\d+) layers", note)) == count
    found = _weights(loaded)
    for key, weight in known.items():
        assert torch.allclose(found[key], weight, atol=1e-5, rtol=1e-5), key


@pytest.mark.parametrize("start", ["lora_unet_", "model.diffusion_model."])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_authors_names_mean_the_same_layers(
    folders: dict[str, Path], tmp_path: Path, family: str, start: str
) -> None:
    """Against diffusers, which converts a checkpoint of the authors with the pairs added to it."""
    folder, generator = folders[family], torch.Generator().manual_seed(0)
    single = save_single_file(folder, tmp_path / "single.safetensors")
    weights, lora = load_file(single), dict[str, Tensor]()
    for key in [key for key in weights if key.startswith("model.diffusion_model.")]:
        name, _, end = key.removeprefix("model.diffusion_model.").rpartition(".")
        if end != "weight" or weights[key].ndim == 1:
            continue
        up, down = _pair(weights[key].shape, 2, generator)
        layer = start + (name.replace(".", "_") if start == "lora_unet_" else name)
        lora |= {f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}
        lora[f"{layer}.alpha"] = torch.tensor(3)
        delta = up.flatten(1) @ down.flatten(1)
        weights[key] = weights[key] + 1.5 * delta.view(weights[key].shape)
    save_file(weights, single)
    save_file(lora, tmp_path / "lora.safetensors")
    loaded, network = _load(folder), "transformer" if family == "sd3" else "unet"
    _fuse(loaded, tmp_path / "lora.safetensors", 1.0)
    known = _weights(_load(single, parts=str(folder)), network)
    for key, weight in _weights(loaded, network).items():
        assert torch.allclose(weight, known[key], atol=1e-4, rtol=1e-4), key


def _train(network: nn.Module) -> None:
    """Set the adapter's weights to random values, as PEFT starts with zeros in one of each pair."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in network.named_parameters():
        if "lora_" in name:
            weight.data.copy_(torch.randn(weight.shape, generator=generator))


SETTINGS: dict[str, Any] = {
    "r": 4,
    "lora_alpha": 6,
    "target_modules": ["to_q", "to_k", "conv1", "proj"],
    "rank_pattern": {r"attn1?\.to_q": 2},
    "alpha_pattern": {r"attn1?\.to_k": 3},
}


@pytest.mark.parametrize("family", ["sd", "sd3"])
@pytest.mark.parametrize("by_root", [False, True])
def test_what_peft_saves_acts_as_in_peft(
    folders: dict[str, Path], tmp_path: Path, family: str, by_root: bool
) -> None:
    """Its own layout, whose alphas and ranks are in ``adapter_config.json``."""
    from peft import LoraConfig, get_peft_model

    part = "transformer" if family == "sd3" else "unet"
    theirs, ours = _load(folders[family]), _load(folders[family])
    before = _weights(ours, part)
    adapted: Any = get_peft_model(theirs.parts[part], LoraConfig(**SETTINGS, use_rslora=by_root))
    _train(adapted)
    adapted.save_pretrained(tmp_path)
    theirs.parts[part] = adapted.merge_and_unload()
    _fuse(ours, tmp_path, 1.0)
    found, known = _weights(ours, part), _weights(theirs, part)
    for key, weight in known.items():
        assert torch.allclose(found[key], weight, atol=1e-5, rtol=1e-5), key
    assert any(not torch.equal(found[key], before[key]) for key in known)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(TeacherError, match=r"PEFT's own layout .* put it beside the file"):
        find_lora(str(tmp_path)).check()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_diffusers_saves_acts_as_in_diffusers(
    folders: dict[str, Path], tmp_path: Path, family: str
) -> None:
    """With the settings of PEFT in the file's metadata."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    part = "transformer" if family == "sd3" else "unet"
    theirs, ours = _load(folders[family]), _load(folders[family])
    pipeline, network = theirs.family.as_pipeline(theirs.parts), theirs.parts[part]
    network.add_adapter(LoraConfig(**SETTINGS))
    _train(network)
    pipeline.save_lora_weights(
        tmp_path,
        **{f"{part}_lora_layers": get_peft_model_state_dict(network)},
        **{f"{part}_lora_adapter_metadata": network.peft_config["default"].to_dict()},
    )
    pipeline.fuse_lora([part])
    pipeline.unload_lora_weights()
    before = _weights(ours, part)
    _fuse(ours, tmp_path, 1.0)
    found, known = _weights(ours, part), _weights(theirs, part)
    for key, weight in known.items():
        assert torch.allclose(found[key], weight, atol=1e-5, rtol=1e-5), key
    assert any(not torch.equal(found[key], before[key]) for key in known)
