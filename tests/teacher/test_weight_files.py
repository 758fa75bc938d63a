"""Files that are taken for weight files, and folders that moved."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from esd_splat.errors import TeacherError
from esd_splat.teacher import StableDiffusion
from esd_splat.teacher.random_weights import save_blank


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blank(tmp_path_factory.mktemp("files") / "sd", "tiny-sd")


def _load(config: StableDiffusion) -> None:
    config.check({})
    config.load(torch.device("cpu"), torch.float32)


def _refused(config: StableDiffusion) -> str:
    with pytest.raises(TeacherError) as caught:
        _load(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html><html>" + b" " * 500, "it is a web page; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS; fetch the file"),
        (b"PK\x03\x04" + bytes(200), "it is a pickle by its content"),
        (b"GGUF" + bytes(200), "it is a GGUF file by its content"),
        (b'{"error": "not found"}', "it is a text in JSON"),
        (b"", "it is empty; download it again"),
        (b"\x10\x00", "it is cut off or damaged, at 2 bytes"),
        (b"\x80\x02" + bytes(6) + b'{"a":', "it is cut off or damaged, at 13 bytes"),
        (bytes(range(255, 100, -1)), "it is not a .safetensors file"),
    ],
)
def test_what_is_taken_for_a_weight_file_is_named(
    model: Path, tmp_path: Path, content: bytes, what: str
) -> None:
    """As a checkpoint, as a LoRA and in a folder."""
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    folder = Path(shutil.copytree(model, tmp_path / "folder"))
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(content)
    for config in (
        StableDiffusion(model=str(file)),
        StableDiffusion(lora=(str(file),)),
        StableDiffusion(model=str(folder)),
    ):
        assert what in _refused(config)


@pytest.mark.parametrize("named", ["innocent.bin", "../x.safetensors", "/x.safetensors"])
def test_an_index_names_safetensors_files_beside_it_alone(
    model: Path, tmp_path: Path, named: str
) -> None:
    """The libraries would unpickle any other file."""
    for part in ("unet", "vae", "text_encoder"):
        folder = Path(shutil.copytree(model, tmp_path / part))
        (file,) = (folder / part).glob("*.safetensors")
        index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(file), named)}
        torch.save(load_file(file), folder / part / "innocent.bin")
        file.with_name(f"{file.name}.index.json").write_text(json.dumps(index))
        file.unlink()
        message = _refused(StableDiffusion(model=str(folder)))
        assert f"index.json names '{named}', which is no" in message


def _cached(model: Path, hub: Path) -> Path:
    """Lay out a model as in the hub's cache, where a snapshot has links to blobs."""
    snapshot, blobs = hub / "models--some--model" / "snapshots" / "0a1b", hub / "blobs"
    blobs.mkdir(parents=True)
    for number, file in enumerate(path for path in model.rglob("*") if path.is_file()):
        place = snapshot / file.relative_to(model)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blobs / str(number))
        place.symlink_to(blobs / str(number))
    return snapshot


def test_links_of_the_hubs_cache_are_followed(model: Path, tmp_path: Path) -> None:
    """Nothing is written beside them, as a share may be read-only."""
    snapshot = _cached(model, tmp_path)
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    _load(StableDiffusion(model=str(snapshot)))
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    message = _refused(StableDiffusion(model=str(snapshot.parent.parent)))
    assert f"it is a model in the hub's cache: give {snapshot}" in message


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "unet of .* no file named diffusion_pytorch_"),
        ("text_encoder/model.safetensors", "text_encoder of .* no file named model.safetensors"),
        ("vae/config.json", "vae of .* no file named config.json"),
        ("tokenizer/tokenizer.json", "tokenizer of .* it has no vocabulary"),
        ("tokenizer/tokenizer_config.json", "tokenizer of .* it has no tokenizer_config.json"),
        ("scheduler/scheduler_config.json", "scheduler of .* no file named scheduler_config"),
    ],
)
def test_half_a_snapshot_is_refused(model: Path, tmp_path: Path, file: str, why: str) -> None:
    """A link whose blob is gone counts as missing."""
    snapshot = _cached(model, tmp_path)
    (snapshot / file).resolve().unlink()
    message = _refused(StableDiffusion(model=str(snapshot)))
    assert re.search(why, message)
    assert "Its files must be complete; copy or download the folder again" in message


def test_a_folder_of_scaled_weights_is_refused(model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    scale = {"conv_in.weight_scale": torch.ones(1)}
    save_file(load_file(file) | scale, file, {"format": "pt"})
    message = _refused(StableDiffusion(model=str(folder)))
    assert "its weights have scales, such as conv_in.weight_scale" in message
    assert "complete" not in message, "they are"
