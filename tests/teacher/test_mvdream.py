"""A tiny MVDream with random weights, in the layout in which the real one is published."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from esd_splat import load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.lora import Lora
from esd_splat.distill.losses import LOSSES
from esd_splat.distill.recent import Recent
from esd_splat.distill.step_config import StepConfig
from esd_splat.errors import TeacherError
from esd_splat.plan.tracker import Tracker
from esd_splat.scene.cameras import orbit_cameras
from esd_splat.teacher import StableDiffusion, Teacher
from esd_splat.teacher.memory import Memory
from esd_splat.teacher.mvdream import normalized_camera
from esd_splat.teacher.outline import outline
from esd_splat.teacher.random_weights import save_blank
from tests.teacher.ldm import publish_mvdream
from tests.tiny import IMAGE_SIZE

CPU = torch.device("cpu")
RING = ("batch=4", "cameras.ring=true")
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_mvdream(save_blank(tmp_path_factory.mktemp("mvdream") / "model", "tiny-mvdream"))


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "model")


def _load(folder: Path) -> Any:
    config = StableDiffusion(model=str(folder))
    config.check({})
    return config.load(CPU, torch.float32)


def _c2w(elevation: float = 15.0, distance: float = 2.5) -> torch.Tensor:
    azimuth = torch.tensor([0.0, 90.0, 180.0, 270.0])
    values = (torch.full((4,), value) for value in (elevation, distance, 40.0))
    return orbit_cameras(azimuth, *values, size=IMAGE_SIZE).c2w


def _told(teacher: Teacher) -> torch.Tensor:
    return teacher.told(teacher.embed(["a red owl"] * 4), _c2w())


@torch.no_grad()
def test_the_published_layout_is_read_like_that_of_diffusers(folder: Path, tmp_path: Path) -> None:
    """The keys are those of the published class, which cannot be had here. These are some."""
    some = {"camera_embed.0.weight", "time_embed.2.bias", "input_blocks.2.0.op.bias", "out.0.bias"}
    some |= {"output_blocks.1.2.conv.bias", "middle_block.1.transformer_blocks.0.attn2.to_k.weight"}
    assert some < load_file(folder / WEIGHTS).keys()
    found, known = _load(folder), _load(save_blank(tmp_path / "known", "tiny-mvdream"))
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, 4, 4, 4, generator=generator), torch.full((4,), 600)
    assert torch.equal(found.output(*inputs, _told(found)), known.output(*inputs, _told(known)))
    assert found.latent_shape == (4, 4, 4)
    assert found.image_size == IMAGE_SIZE


def test_cameras_are_opengl_with_z_up_at_distance_1() -> None:
    """The front is at +x and an azimuth of 90 degrees at +y. The distance does not count."""
    elevation = math.radians(30)
    level, up = math.cos(elevation), math.sin(elevation)
    rows = normalized_camera(_c2w(30.0, 1.7)).view(4, 4, 4)
    for index, (cos, sin) in enumerate(((1, 0), (0, 1), (-1, 0), (0, -1))):
        known = [
            [-sin, -up * cos, level * cos, level * cos],
            [cos, -up * sin, level * sin, level * sin],
            [0, level, up, up],
            [0, 0, 0, 1],
        ]
        torch.testing.assert_close(rows[index], torch.tensor(known).float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(normalized_camera(_c2w(30.0, 4.0)).view(4, 4, 4), rows)


def test_the_network_is_told_these_cameras(folder: Path) -> None:
    told, texts = _told(teacher := _load(folder)), teacher.embed(["a red owl"] * 4)
    torch.testing.assert_close(told[:, :-1], texts)
    torch.testing.assert_close(told[:, -1, :16], normalized_camera(_c2w()))
    assert (told[:, -1, 16] == 4).all()


def _distillation(folder: Path, config: str | None, *more: str) -> Distillation:
    keys = [f"teacher.model={folder}", f"cameras.size={IMAGE_SIZE}", "init.count=20", "lora.rank=2"]
    keys += ["prompt=a red owl", "backend=reference", "optim.means=0.01"]
    resolved = load_config(config, [*keys, *more])
    return Distillation(StepConfig.of(resolved), _load(folder), "reference")


def _takes_three_steps(run: Distillation) -> None:
    before = run.scene.means.detach().clone()
    logged = [run.step() for _ in range(3)]
    assert all(math.isfinite(value) for step in logged for value in step.values())
    assert (run.scene.means - before).abs().max() > 0.01


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_takes_three_steps(folder: Path, loss: str) -> None:
    keys = [f"loss.name={loss}", "teacher.guidance_scale=3", "negative_prompt=blue"]
    keys += ["loss.negative=0.5"] if loss == "csd" else []
    keys += ["loss.entropy_weight=0.5"] if loss == "esd" else []
    _takes_three_steps(_distillation(folder, None, *RING, *keys))


@pytest.mark.parametrize("config", ["esd", "esd_pool", "esd_paper", "mvdream"])
def test_every_form_of_esd_takes_three_steps(folder: Path, config: str) -> None:
    _takes_three_steps(_distillation(folder, config, *RING))


def test_a_lora_learns_and_sleeps(folder: Path) -> None:
    teacher, c2w, t = _load(folder), _c2w(), torch.full((4,), 600)
    clean = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    before = teacher.eps(clean, t, _told(teacher)).detach()
    lora = Lora(rank=2, lr=1e-2, warmup=0).attach(teacher, seed=0)
    generator, prompt = torch.Generator().manual_seed(0), teacher.embed(["a red owl"])
    views = Recent.of(clean, c2w, 0)
    losses = [lora.train(views, prompt, lora.draw(4, generator)).item() for _ in range(40)]
    assert sum(losses[-10:]) < sum(losses[:10])
    torch.testing.assert_close(teacher.eps(clean, t, _told(teacher)), before)
    hidden = torch.tensor([False, False, True, True])
    awake = lora.eps(clean, t, _told(teacher), c2w, hidden)
    assert (awake - before).abs().amax((1, 2, 3)).min() > 1e-4


@pytest.mark.parametrize(("batch", "ring"), [(4, "false"), (2, "true"), (8, "true")])
def test_other_cameras_are_refused(folder: Path, batch: int, ring: str) -> None:
    message = f"batch, cameras.ring: must be 4 and true, got {batch} and {ring}: this teacher was "
    with pytest.raises(TeacherError, match=message):
        _distillation(folder, None, f"batch={batch}", f"cameras.ring={ring}")


def test_an_outline_has_the_shapes_of_the_weights(folder: Path) -> None:
    shapes = {name: p.shape for name, p in _load(folder).network.named_parameters()}
    with Tracker():
        found = outline(StableDiffusion(model=str(folder)), torch.float32, Memory()).teacher
    assert {name: p.shape for name, p in found.network.named_parameters()} == shapes


def test_a_folder_without_its_index_is_known_by_its_unet(copied: Path) -> None:
    (copied / "model_index.json").unlink()
    assert _load(copied).ring == 4


def test_the_index_may_name_a_file_too(copied: Path) -> None:
    index = copied / "model_index.json"
    index.write_text(json.dumps({"_class_name": ["pipeline_mvdream", "MVDreamPipeline"]}))
    assert _load(copied).ring == 4


def _refused(folder: Path) -> str:
    with pytest.raises(TeacherError) as caught:
        _load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_imagedream_is_refused(copied: Path) -> None:
    index = copied / "model_index.json"
    found = json.loads(index.read_text()) | {"image_encoder": ["transformers", "CLIPVisionModel"]}
    index.write_text(json.dumps(found))
    assert "is ImageDream, which needs a picture of the object; MVDream takes" in _refused(copied)


def test_weights_that_are_missing_or_foreign_are_named(copied: Path) -> None:
    weights, file = load_file(copied / WEIGHTS), copied / WEIGHTS
    cut = {key: weight for key, weight in weights.items() if not key.startswith("camera")}
    save_file(cut, file)
    assert "lacks 4 weights, such as class_embedding.linear_1.bias" in _refused(copied)
    picture = "middle_block.1.transformer_blocks.0.attn2.to_k_ip.weight"
    save_file(weights | {picture: torch.zeros(64, 24)}, file)
    assert f"1 of its weights have no place in it, such as {picture}" in _refused(copied)
    save_file(weights | {"out.2.bias": torch.zeros(8)}, file)
    assert "its conv_out.bias is [8], but its config makes it [4]" in _refused(copied)
    file.unlink()
    message = _refused(copied)
    assert "cannot load the unet of" in message
    assert "diffusion_pytorch_model.safetensors" in message


def test_a_config_without_a_key_is_refused(copied: Path) -> None:
    config = copied / "unet" / "config.json"
    found = json.loads(config.read_text())
    del found["channel_mult"]
    config.write_text(json.dumps(found))
    assert "cannot load the unet of" in (message := _refused(copied))
    assert "its config lacks 'channel_mult'" in message
