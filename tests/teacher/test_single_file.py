"""Single-file checkpoints in the layout of the models' authors, against the same folders."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from esd_splat.errors import TeacherError
from esd_splat.teacher import StableDiffusion
from esd_splat.teacher.latent import LatentTeacher
from esd_splat.teacher.random_weights import save_blank
from tests.teacher.ldm import save_single_file
from tests.tiny import IMAGE_SIZE

FAMILIES = ("sd", "sdxl", "sd3")
UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("single")
    folders = {name: save_blank(root / name, f"tiny-{name}", t5=True) for name in FAMILIES}
    # The authors' file of Stable Diffusion 3 lacks this matrix, so it must be the identity.
    _change(folders["sd3"] / "text_encoder" / "model.safetensors", "text_projection.weight")
    for name, folder in folders.items():
        save_single_file(folder, root / f"{name}.safetensors")
    return folders


def _change(file: Path, key: str) -> None:
    weights = load_file(file)
    weights[key] = torch.eye(len(weights[key]))
    save_file(weights, file, metadata={"format": "pt"})


def _file(folder: Path) -> Path:
    return folder.with_suffix(".safetensors")


def _bare(folder: Path, to: Path) -> Path:
    """Copy the folder without its weights."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors"))
    return to


def _load(model: Path, **more: object) -> LatentTeacher:
    config = StableDiffusion(model=str(model), **more)  # pyright: ignore[reportArgumentType]
    config.check({})
    teacher = config.load(torch.device("cpu"), torch.float32)
    assert isinstance(teacher, LatentTeacher)
    return teacher


def _answers(teacher: LatentTeacher) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    words = teacher.embed(["a red owl", "a cat, back view"])
    network: Any = teacher.network
    channels = network.config["in_channels"]
    noisy = torch.randn(2, channels, 4, 4, generator=generator)
    images = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    with torch.no_grad():
        eps = teacher.eps(noisy, torch.tensor([100, 700]), words)
        latents = teacher.encode(images)
    return {"embed": words, "eps": eps, "encode": latents, "decode": teacher.decode(latents)}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_is_the_folder_that_it_was_made_of(
    folders: dict[str, Path], tmp_path: Path, family: str
) -> None:
    """The folder that gives the configs holds no weights."""
    folder = folders[family]
    teacher = _load(_file(folder), parts=str(_bare(folder, tmp_path / "bare")))
    assert teacher.notes == ()
    found, known = _answers(teacher), _answers(_load(folder))
    for name in known:  # the weights are equal, but rounding may differ
        torch.testing.assert_close(found[name], known[name], atol=1e-5, rtol=1e-5)


def test_what_a_file_lacks_is_taken_from_the_parts_and_said(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "no_text.safetensors"
    weights = load_file(_file(folders["sd"]))
    save_file({k: w for k, w in weights.items() if not k.startswith("cond_")}, file)
    teacher = _load(file, parts=str(folders["sd"]))
    assert teacher.notes == (f"{file} has no text_encoder: taken from {folders['sd']}",)
    torch.testing.assert_close(_answers(teacher)["eps"], _answers(_load(folders["sd"]))["eps"])


def test_a_file_that_is_cut_or_of_another_network_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    file, parts = tmp_path / "model.safetensors", str(folders["sd"])
    whole = _file(folders["sd"]).read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(TeacherError, match=r"teacher.model: cannot read .*model\.safetensors: "):
        StableDiffusion(model=str(file), parts=parts).check({})
    for start, part in (
        ("cond_stage_model.transformer.text_model.final_layer_norm.weight", "text_encoder"),
        ("first_stage_model.decoder.conv_out.weight", "vae"),
        ("model.diffusion_model.out.2.weight", "unet"),
    ):
        weights = load_file(_file(folders["sd"]))
        weights.pop(start)
        save_file(weights, file)
        with pytest.raises(
            TeacherError, match=f"cannot load the {part} of .*lacks (1|some of its) weights"
        ):
            _load(file, parts=parts)


def test_the_family_of_the_parts_must_be_that_of_the_file(folders: dict[str, Path]) -> None:
    message = r"parts: .* is a Stable Diffusion XL model, but .* is a Stable Diffusion model"
    with pytest.raises(TeacherError, match=message):
        _load(_file(folders["sd"]), parts=str(folders["sdxl"]))


def test_a_file_that_says_v_needs_a_scheduler_that_says_so(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "v.safetensors"
    save_file(load_file(_file(folders["sd"])) | {"v_pred": torch.zeros(0)}, file)
    with pytest.raises(TeacherError, match=r"predicts v_prediction, but this says 'epsilon'; give"):
        _load(file, parts=str(folders["sd"]))
    parts = save_blank(tmp_path / "v", "tiny-sd", predicts="v_prediction")
    assert _load(file, parts=str(parts)).predicts == "v_prediction"


@pytest.mark.parametrize("ends", [("scale_weight", "scale_input"), ("weight_scale", "input_scale")])
@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_scaled_float8_weights_are_multiplied_out(
    folders: dict[str, Path], tmp_path: Path, family: str, by_row: bool, ends: tuple[str, str]
) -> None:
    """As ComfyUI writes them, in both spellings, in the text encoders too."""
    file, whole, scaled = tmp_path / "fp8.safetensors", load_file(_file(folders[family])), {}
    for key, weight in load_file(_file(folders[family])).items():
        if weight.ndim != 2 or not key.endswith("proj.weight"):
            scaled[key] = weight
            continue
        largest = weight.abs().amax(1, keepdim=True) if by_row else weight.abs().max()
        scale = largest / 448
        scaled[key] = (weight / scale).to(torch.float8_e4m3fn)
        whole[key] = scaled[key].float() * scale
        scaled |= {key.removesuffix("weight") + end: scale.clone() for end in ends}
    marker = {"model.diffusion_model.scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    assert len(scaled) > len(whole)
    save_file(scaled | marker, file)
    save_file(whole, tmp_path / "whole.safetensors")
    parts = str(folders[family])
    found = _answers(_load(file, parts=parts))
    known = _answers(_load(tmp_path / "whole.safetensors", parts=parts))
    for name in known:
        torch.testing.assert_close(found[name], known[name], atol=1e-6, rtol=1e-6)


def test_other_ways_to_quantize_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    file, key = tmp_path / "model.safetensors", f"{UNET}time_embed.0."
    weights = load_file(_file(folders["sd"]))
    save_file(weights | {f"{key}weight": torch.zeros(32, 8).byte()}, file)
    with pytest.raises(
        TeacherError, match=r"is quantized \(.*time_embed.* is stored as U8\); give"
    ):
        StableDiffusion(model=str(file)).check({})
    blocks = {f"{key}weight": torch.zeros(32, 8).to(torch.float8_e4m3fn)}
    save_file(weights | blocks | {f"{key}weight_scale": torch.ones(32, 2)}, file)
    with pytest.raises(
        TeacherError, match=r"scales .* of the shape \[32, 2\], which is not one for"
    ):
        _load(file, parts=str(folders["sd"]))


@pytest.mark.parametrize(
    ("channels", "what"), [(9, "inpainting"), (8, "InstructPix2Pix"), (5, "depth-to-image")]
)
def test_networks_that_take_more_than_latents_are_named(
    tmp_path: Path, channels: int, what: str
) -> None:
    file = tmp_path / "model.safetensors"
    save_file({f"{UNET}input_blocks.0.0.weight": torch.zeros(8, channels, 3, 3)}, file)
    with pytest.raises(TeacherError, match=rf"is an? {what} model: its network takes {channels} "):
        StableDiffusion(model=str(file)).check({})


def test_the_oldest_layout_and_other_names_of_files_are_read(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Without a level in the text encoder's names, as a blob of the hub's cache, in capitals."""
    known, parts = _answers(_load(folders["sd"])), str(folders["sd"])
    weights = load_file(_file(folders["sd"]))
    assert any("transformer.text_model." in key for key in weights)
    for name in ("OLD.SAFETENSORS", "0a1b2c3d"):
        file = tmp_path / name
        save_file(
            {k.replace("transformer.text_model.", "transformer."): w for k, w in weights.items()},
            file,
        )
        assert torch.equal(_answers(_load(file, parts=parts))["eps"], known["eps"])


def test_the_configs_of_another_model_are_told_from_a_damaged_file(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    weights = load_file(_file(folders["sd"]))
    weights[f"{UNET}time_embed.0.weight"] = torch.zeros(32, 16)
    file = tmp_path / "model.safetensors"
    save_file(weights, file)
    with pytest.raises(
        TeacherError, match=r"asks for .* of the shape \[32, 8\], not .* must be a model"
    ) as caught:
        _load(file, parts=str(folders["sd"]))
    assert "complete" not in str(caught.value)


def _header(file: Path, *keys: str) -> Path:
    save_file({key: torch.zeros(1) for key in keys}, file)
    return file


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (["lora_unet_x.lora_down.weight"], "is a LoRA: give it as teacher.lora"),
        (["unet.x.to_q.lora_A.weight"], "is a LoRA"),
        ([UNET + "label_emb.0.0.weight", "conditioner.embedders.0.model.x"], "refiner of Stable"),
        (["control_model.x"], "is a ControlNet"),
        ([UNET + "camera_embed.0.weight", UNET + "input_blocks.0.0.weight"], "is MVDream in its"),
        (["camera_embed.0.bias"], "its authors' layout: give teacher.model=ashawkey/mvdream-sd2.1"),
        (
            ["encoder.conv_in.weight"],
            r"has keys such as 'encoder\.conv_in\.weight'\); give a whole",
        ),
        ([UNET + "input_blocks.0.0.weight", "cond_stage_model.model.x"], "does not tell which mod"),
    ],
)
def test_other_files_say_what_they_are(tmp_path: Path, keys: list[str], what: str) -> None:
    file = _header(tmp_path / "other.safetensors", *keys)
    with pytest.raises(TeacherError, match=what) as caught:
        StableDiffusion(model=str(file)).check({})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "original"),
    [
        (["input_blocks.0.0.weight"], "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        (["label_emb.0.0.weight"], "stabilityai/stable-diffusion-xl-base-1.0"),
        (["joint_blocks.23.x"], "stabilityai/stable-diffusion-3-medium-diffusers"),
        (["joint_blocks.0.x_block.attn2.x"], "stabilityai/stable-diffusion-3.5-medium"),
        (["joint_blocks.37.x"], "stabilityai/stable-diffusion-3.5-large"),
    ],
)
def test_the_original_lends_its_configs(tmp_path: Path, keys: list[str], original: str) -> None:
    first = "cond_stage_model.transformer.x"
    file = _header(tmp_path / "model.safetensors", first, *(UNET + key for key in keys))
    source = StableDiffusion(model=str(file)).source()
    assert source.where == original
    assert original in source.key, "errors say where the id comes from"


@pytest.mark.parametrize("suffix", ["ckpt", "pt", "bin"])
def test_pickles_are_refused_unopened(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"model.{suffix}"
    file.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(
        TeacherError, match=r"teacher\.model: .* is a pickle.*give the \.safetensors"
    ):
        StableDiffusion(model=str(file)).check({})
    with pytest.raises(TeacherError, match=r"teacher\.lora: .* is a pickle"):
        StableDiffusion(lora=(str(file),)).check({})


def test_a_file_that_is_not_there_is_no_hub_id() -> None:
    with pytest.raises(TeacherError, match=r"cannot read models/none\.safetensors: No such file"):
        StableDiffusion(model="models/none.safetensors").check({})


def test_parts_belong_to_a_file(folders: dict[str, Path]) -> None:
    with pytest.raises(TeacherError, match=r"teacher\.parts: must be left out, got 'x/y'"):
        StableDiffusion(model=str(folders["sd"]), parts="x/y").check({})
    with pytest.raises(TeacherError, match=r"teacher\.parts: no folder './none'"):
        StableDiffusion(model=str(_file(folders["sd"])), parts="./none").check({})


def test_a_folder_of_such_files_points_to_them(folders: dict[str, Path], tmp_path: Path) -> None:
    name = "pytorch_lora_weights.safetensors"
    message = r"for a single-file checkpoint, give its path: .*/sd\.safetensors"
    with pytest.raises(TeacherError, match=message):
        StableDiffusion(model=str(folders["sd"].parent)).check({})
    _header(tmp_path / name, "unet.x.to_q.lora_A.weight")
    with pytest.raises(TeacherError, match="it looks like a LoRA, which belongs in"):
        StableDiffusion(model=str(tmp_path)).check({})
