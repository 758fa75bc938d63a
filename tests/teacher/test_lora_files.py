"""LoRAs that are part of a teacher act as in diffusers' own pipelines, in every family."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from esd_splat import fit, load_config
from esd_splat.distill.lora import Lora
from esd_splat.distill.recent import Recent
from esd_splat.errors import ConfigError, TeacherError
from esd_splat.teacher import Memory, StableDiffusion
from esd_splat.teacher.families import FAMILIES
from esd_splat.teacher.latent import LatentTeacher
from esd_splat.teacher.loading import quiet
from esd_splat.teacher.random_weights import save_blank

CPU, RANK = torch.device("cpu"), 2
PIPELINES = {
    "sd": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("lora")
    folders = {name: save_blank(root / name, f"tiny-{name}") for name in PIPELINES}
    for name, folder in folders.items():
        for seed in (0, 1):
            _save_lora(_pipeline(name, folder), root / f"{name}-{seed}.safetensors", seed)
    return folders


def _pipeline(family: str, folder: Path) -> Any:
    parts = StableDiffusion(model=str(folder)).source().load(torch.float32)[1]
    return FAMILIES[PIPELINES[family]].as_pipeline(parts)


def _save_lora(pipeline: Any, file: Path, seed: int) -> None:
    """Save a random LoRA for attention layers of the network and its text encoders."""
    generator, weights = torch.Generator().manual_seed(seed), {}
    for part in ("unet", "transformer", "text_encoder", "text_encoder_2"):
        network = getattr(pipeline, part, None)
        for name, layer in network.named_modules() if network else ():
            if not name.endswith(("to_k", "k_proj", "out_proj")):
                continue
            name = name.removeprefix("text_model.")
            place = f"{part}.text_model.{name}" if part.startswith("text") else f"{part}.{name}"
            wide, deep = layer.weight.shape
            down, up = (
                torch.randn(size, generator=generator) for size in ((RANK, deep), (wide, RANK))
            )
            weights |= {f"{place}.lora_A.weight": down, f"{place}.lora_B.weight": up}
    save_file(weights, file)


def _lora(folder: Path, seed: int = 0) -> Path:
    return folder.with_name(f"{folder.name}-{seed}.safetensors")


def _load(folder: Path, *lora: str) -> LatentTeacher:
    config = StableDiffusion(model=str(folder), lora=lora)
    config.check({})
    teacher = config.load(CPU, torch.float32)
    assert isinstance(teacher, LatentTeacher)
    return teacher


@torch.no_grad()
def _answers(teacher: LatentTeacher) -> tuple[Tensor, Tensor]:
    words = teacher.embed(["a red owl", "a cat"])
    network: Any = teacher.network
    channels = network.config["in_channels"]
    noisy = torch.randn(2, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    return words, teacher.eps(noisy, torch.tensor([100, 700]), words)


@pytest.mark.parametrize("family", PIPELINES)
def test_it_counts_as_it_does_in_the_pipeline(folders: dict[str, Path], family: str) -> None:
    """Two LoRAs at different scales, in text encoders too: fused ones against active adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    folder = folders[family]
    pipeline = _pipeline(family, folder)
    with quiet():
        for seed in (0, 1):
            pipeline.load_lora_weights(str(_lora(folder, seed)), adapter_name=f"number{seed}")
    pipeline.set_adapters(["number0", "number1"], [0.5, 1.0])
    parts = {name: part for name, part in pipeline.components.items() if part is not None}
    known = _answers(FAMILIES[PIPELINES[family]].build(parts, CPU, torch.float32, Memory()))  # pyright: ignore
    teacher = _load(folder, f"{_lora(folder)}:0.5", str(_lora(folder, 1)))
    found, without = _answers(teacher), _answers(_load(folder))
    for index in range(2):
        torch.testing.assert_close(found[index], known[index], atol=1e-4, rtol=1e-4)
        assert (found[index] - without[index]).abs().max() > 0.01
    assert not any(isinstance(m, BaseTunerLayer) for m in teacher.network.modules())
    assert len(teacher.notes) == 2
    assert f"{_lora(folder)} at 0.5 changed " in teacher.notes[0]


def test_a_lora_hangs_in_beside_it(folders: dict[str, Path]) -> None:
    teacher = _load(folders["sd"], str(_lora(folders["sd"])))
    before = _answers(teacher)[1]
    lora = Lora(rank=2, lr=1e-2, warmup=0).attach(teacher, seed=0)
    assert {n.split(".")[-2] for n, _ in teacher.network.named_parameters() if "lora_A" in n} == {
        "scene"
    }
    clean, words, c2w = (
        torch.randn(2, 4, 4, 4),
        teacher.embed(["a"] * 2),
        torch.eye(4).expand(2, 4, 4),
    )
    drawn = lora.draw(2, torch.Generator().manual_seed(0))
    lora.train(Recent.of(clean, c2w, 0), words[:1], drawn)
    assert torch.equal(_answers(teacher)[1], before)
    awake = lora.eps(clean, torch.tensor([5, 5]), words, c2w, torch.tensor([False, True]))
    assert not torch.equal(awake, teacher.eps(clean, torch.tensor([5, 5]), words))


def test_a_run_says_what_is_part_of_its_teacher(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora = f"{_lora(folders['sd'])}:0.5"
    keys = [f"teacher.model={folders['sd']}", f"teacher.lora=[{lora}]", f"out={tmp_path / 'out'}"]
    keys += ["prompt=a red owl", "steps=1", "batch=1", "cameras.size=16", "init.count=20"]
    fit(load_config(None, [*keys, "export.frames=0", "backend=reference", "pool.views=4"]))
    assert f"teacher.lora: {_lora(folders['sd'])} at 0.5 changed " in capsys.readouterr().out


def test_kohya_files_are_understood(folders: dict[str, Path], tmp_path: Path) -> None:
    """With alpha = rank / 2 the scale is one half."""
    file, found = _lora(folders["sd"]), {}
    for key, weight in load_file(file).items():
        place, end = key.rsplit(".lora_", 1)
        start = "lora_unet_" if place.startswith("unet") else "lora_te_"
        name = start + place.split(".", 1)[1].replace(".", "_")
        found[f"{name}.lora_{'down' if end[0] == 'A' else 'up'}.weight"] = weight
        found[f"{name}.alpha"] = torch.tensor(RANK / 2)
    kohya = tmp_path / "kohya.safetensors"
    save_file(found, kohya)
    half = _answers(_load(folders["sd"], f"{file}:0.5"))
    for ours, theirs in zip(_answers(_load(folders["sd"], str(kohya))), half, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("model", "lora"), [("sdxl", "sd"), ("sd", "sdxl"), ("sd", "sd3")])
def test_one_of_another_family_is_refused(folders: dict[str, Path], model: str, lora: str) -> None:
    names = {"sd": "Stable Diffusion", "sdxl": "Stable Diffusion XL"}
    with pytest.raises(
        TeacherError, match=f"does not fit {names[model]}: .*; give a LoRA of this"
    ) as caught:
        _load(folders[model], str(_lora(folders[lora])))
    assert "\n" not in str(caught.value)


def test_a_layer_that_the_model_has_not_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """diffusers would only warn. The message repeats what the file says about its model."""
    weights = load_file(_lora(folders["sd"]))
    for end in ("A", "B"):
        weights[f"unet.down_blocks.7.attn1.to_q.lora_{end}.weight"] = torch.zeros(16, 16)
    file = tmp_path / "more.safetensors"
    save_file(weights, file, metadata={"ss_base_model_version": "sd_v2"})
    with pytest.raises(
        TeacherError, match=r"1 of its \d+ layers are not .*says .* for 'sd_v2'; give"
    ):
        _load(folders["sd"], str(file))


def test_nothing_else_is_taken_for_one(folders: dict[str, Path], tmp_path: Path) -> None:
    def refused(lora: str) -> str:
        with pytest.raises(TeacherError) as caught:
            StableDiffusion(lora=(lora,)).check({})
        return str(caught.value)

    assert "no file './none'" in refused("./none")
    assert f"{tmp_path} has no .safetensors file" in refused(str(tmp_path))
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert "is not a LoRA: it has weights such as 'x'" in refused(str(tmp_path))
    save_file({}, tmp_path / "y.safetensors")
    assert "is not a LoRA: it has no weights" in refused(str(tmp_path / "y.safetensors"))
    assert "has 2 .safetensors files" in refused(str(tmp_path))
    shutil.copy(_lora(folders["sd"]), tmp_path / "pytorch_lora_weights.safetensors")
    StableDiffusion(lora=(f"{tmp_path}:-0.5",)).check({})


def test_scales_are_checked_with_all_other_keys() -> None:
    with pytest.raises(ConfigError, match=r"teacher\.lora: must have a scale in .*'a:80'"):
        load_config(None, ["prompt=a", "teacher.lora=[a:80]"])
    assert load_config(None, ["prompt=a", "teacher.lora=[a:0.5,b]"]).teacher.lora == ("a:0.5", "b")  # pyright: ignore
