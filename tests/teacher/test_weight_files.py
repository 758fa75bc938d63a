"""Files that are taken for weight files, and folders that moved."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

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
