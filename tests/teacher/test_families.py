"""Every family of models is loaded and called like its own diffusers pipeline."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from esd_splat import load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.lora import Lora
from esd_splat.distill.losses import LOSSES
from esd_splat.distill.recent import Recent
from esd_splat.distill.step_config import StepConfig
from esd_splat.errors import TeacherError
from esd_splat.run import trainer
from esd_splat.teacher import Memory, StableDiffusion
from esd_splat.teacher.latent import LatentTeacher
from esd_splat.teacher.noise import add_noise, alpha_sigma
from esd_splat.teacher.random_weights import SHAPES, save_blank
from esd_splat.teacher.sdxl import unpack
from tests.tiny import IMAGE_SIZE

CPU = torch.device("cpu")
CHANNELS = {"sd": 4, "sdxl": 4, "sd3": 16, "views": 4}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {name: save_blank(root / name, f"tiny-{name}") for name in CHANNELS}


def _load(folder: Path, dtype: torch.dtype = torch.float32) -> LatentTeacher:
    config = StableDiffusion(model=str(folder))
    config.check({})
    teacher = config.load(CPU, dtype, Memory(trace=False))  # some tests watch each pass
    assert isinstance(teacher, LatentTeacher)
    return teacher


def _latents(channels: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, channels, 4, 4, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_sdxl_is_told_what_its_pipeline_would_tell_it(folders: dict[str, Path]) -> None:
    teacher = _load(folders["sdxl"])
    pipeline: Any = diffusers.StableDiffusionXLPipeline.from_pretrained(folders["sdxl"])
    hidden, none, pooled, none_pooled = pipeline.encode_prompt("a red owl", device=CPU)
    for text, expected in (("a red owl", (hidden, pooled)), ("", (none, none_pooled))):
        for found, known in zip(unpack(teacher.embed([text]), 12), expected, strict=True):
            torch.testing.assert_close(found, known)
    sizes = pipeline._get_add_time_ids(
        (IMAGE_SIZE,) * 2, (0, 0), (IMAGE_SIZE,) * 2, torch.float32, pooled.shape[-1]
    )
    noisy, t = _latents(4), torch.tensor([100, 700])
    added = {"text_embeds": pooled.expand(2, -1), "time_ids": sizes.expand(2, -1)}
    known = pipeline.unet(noisy, t, hidden.expand(2, -1, -1), added_cond_kwargs=added).sample
    torch.testing.assert_close(teacher.eps(noisy, t, teacher.embed(["a red owl"] * 2)), known)


@torch.no_grad()
@pytest.mark.parametrize("t5", [True, False])
def test_sd3_is_told_what_its_pipeline_would_tell_it(tmp_path: Path, t5: bool) -> None:
    folder = save_blank(tmp_path / "model", "tiny-sd3", t5=t5)
    teacher = _load(folder)
    without = {} if t5 else {"text_encoder_3": None, "tokenizer_3": None}
    pipeline: Any = diffusers.StableDiffusion3Pipeline.from_pretrained(folder, **without)
    hidden, _, pooled, _ = pipeline.encode_prompt("a red owl", None, None, device=CPU)
    told = unpack(teacher.embed(["a red owl"]), 28)
    for found, known in zip(told, (hidden, pooled), strict=True):
        torch.testing.assert_close(found, known)


@torch.no_grad()
def test_flow_is_converted_at_the_border(folders: dict[str, Path]) -> None:
    """On the straight line that the network was trained on, at the scheduler's noise levels."""
    teacher = _load(folders["sd3"])
    clean, noise, t = _latents(16), _latents(16, 1), torch.tensor([100, 700])
    scheduler: Any = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    u = scheduler.sigmas.flip(0)[t][:, None, None, None]
    line = (1 - u) * clean + u * noise
    words = teacher.embed(["a red owl"] * 2)
    flow = teacher.network(line, *unpack(words, 28), u.flatten() * 1000).sample
    noisy = add_noise(clean, noise, teacher.alphas_cumprod, t)
    alpha, sigma = alpha_sigma(teacher.alphas_cumprod, t)
    torch.testing.assert_close(noisy, line * (alpha + sigma))
    # The flow is noise - clean, so noise = line + (1 - u) flow.
    expected = line + (1 - u) * flow
    torch.testing.assert_close(teacher.eps(noisy, t, words), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(teacher.target(clean, noise, t), noise - clean)


def test_a_network_that_knows_the_flow_predicts_the_noise(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = _load(folders["sd3"])
    clean, noise, t = _latents(16), _latents(16, 1), torch.tensor([3, 999])
    monkeypatch.setattr(teacher, "output", lambda *asked: noise - clean)
    noisy = add_noise(clean, noise, teacher.alphas_cumprod, t)
    torch.testing.assert_close(teacher.eps(noisy, t, teacher.embed(["a", "a"])), noise)


@pytest.mark.parametrize("family", CHANNELS)
def test_a_lora_of_every_family_learns_and_sleeps(folders: dict[str, Path], family: str) -> None:
    teacher, c2w = _load(folders[family]), torch.eye(4).expand(2, 4, 4)
    clean = _latents(CHANNELS[family])
    words = teacher.told(teacher.embed(["a red owl"] * 2), c2w)
    t = torch.tensor([100, 700])
    with torch.no_grad():
        before = teacher.eps(clean, t, words)
    lora = Lora(rank=2, lr=1e-2, warmup=0).attach(teacher, seed=0)
    generator = torch.Generator().manual_seed(0)
    views, prompt = Recent.of(clean, c2w, 0), teacher.embed(["a red owl"])
    losses = [lora.train(views, prompt, lora.draw(2, generator)).item() for _ in range(40)]
    assert sum(losses[-10:]) < sum(losses[:10])
    with torch.no_grad():
        torch.testing.assert_close(teacher.eps(clean, t, words), before)
        awake = lora.eps(clean, t, words, c2w, torch.tensor([False, True]))
        assert (awake - before).abs().amax((1, 2, 3)).min() > 1e-4


ROWS = {
    "sds": [4],
    "vsd": [6, 2],
    "esd": [8, 2],
    "csd": [6],
    "nfsd": [6],
    "asd": [6],
    "sdi": [4] * 10 + [4],
    "ism": [2] * 5 + [4],
}
"""Number of rows in each pass through the network, for a step of two views with guidance and a
negative prompt, which CSD is set to use. Training the LoRA is a separate pass."""


def _keys(folder: Path, *more: str) -> list[str]:
    keys = [f"teacher.model={folder}", f"cameras.size={IMAGE_SIZE}", "batch=2", "init.count=20"]
    keys += ["lora.rank=2", "prompt=a red owl", "backend=reference", "negative_prompt=blue"]
    return [*keys, *more]


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("family", CHANNELS)
def test_every_loss_steps_on_every_family_and_asks_for_nothing_else(
    folders: dict[str, Path], family: str, loss: str
) -> None:
    keys = [f"loss.name={loss}", "teacher.guidance_scale=3", "optim.means=0.01"]
    keys += ["loss.negative=0.5"] if loss == "csd" else []
    keys += ["loss.entropy_weight=0.5"] if loss == "esd" else []
    config = load_config(None, _keys(folders[family], *keys))
    run = Distillation(StepConfig.of(config), _load(folders[family]), "reference")
    rows: list[int] = []
    run.teacher.network.register_forward_pre_hook(
        lambda module, inputs: rows.append(len(inputs[0])), with_kwargs=False
    )
    before = run.scene.means.detach().clone()
    logged = [run.step() for _ in range(3)]
    assert rows == ROWS[loss] * 3
    assert all(math.isfinite(value) for step in logged for value in step.values())
    assert (run.scene.means - before).abs().max() > 0.01


@pytest.mark.parametrize("family", CHANNELS)
def test_every_family_resumes_to_the_same_bits(
    folders: dict[str, Path], tmp_path: Path, family: str
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    keys = _keys(folders[family], "loss.name=esd", "loss.entropy_weight=0.5", "steps=4")
    keys += ["export.frames=0", "export.report=false", "densify=none"]
    keys += ["export.sheet_views=2"]
    trainer.run(load_config(None, [*keys, f"out={whole}"]), quiet=True)
    trainer.run(load_config(None, [*keys, f"out={cut}"]), quiet=True, until=2)
    trainer.run(load_config(None, [*keys, f"out={cut}", "resume=true"]), quiet=True)
    assert (whole / "scene.ply").read_bytes() == (cut / "scene.ply").read_bytes()


def test_a_vae_of_another_family_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["sd"], tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "vae")
    shutil.copytree(folders["sd3"] / "vae", tmp_path / "model" / "vae")
    message = "its vae makes 16 latent channels, but its network takes 4"
    with pytest.raises(TeacherError, match=message):
        _load(tmp_path / "model")


def test_foreign_and_incomplete_folders_say_what_they_are(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["sdxl"], tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "text_encoder_2")
    config = StableDiffusion(model=str(tmp_path / "model"))
    with pytest.raises(TeacherError, match="not a Stable Diffusion XL folder: it has no text_enc"):
        config.check({})
    index = tmp_path / "model" / "model_index.json"
    index.write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(TeacherError, match="is a FluxPipeline; supported are StableDiffusionPipe"):
        config.check({})
    index.write_text("[]")
    with pytest.raises(TeacherError, match="names no pipeline"):
        config.check({})


def test_half_precision_spares_the_vae_that_cannot(folders: dict[str, Path]) -> None:
    teacher = _load(folders["sdxl"], torch.float16)
    assert teacher._vae.dtype == torch.float32
    assert teacher.encode(torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE)).dtype == torch.float32
    assert _load(folders["sd"], torch.float16)._vae.dtype == torch.float16


def test_random_weights_depend_on_the_seed_and_are_written_whole(tmp_path: Path) -> None:
    one, same, other = (
        _load(save_blank(tmp_path / str(index), "tiny-sd", seed=seed))
        for index, seed in enumerate((1, 1, 2))
    )
    first, again, third = (next(x.network.parameters()) for x in (one, same, other))
    assert torch.equal(first, again)
    assert not torch.equal(first, third)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("family", "millions"),
    [("sd15", 859.5), ("sd21", 865.9), ("sdxl", 2567.5), ("sd3", 2028.3), ("mvdream", 867.6)],
)
def test_real_configurations_have_as_many_parameters_as_the_models(
    family: str, millions: float
) -> None:
    """As published: 860 M, 866 M and 2.6 B for the UNets, 2 B for the transformer.

    MVDream's is that of Stable Diffusion 2 with an embedding of 16 numbers, 1.7 M.
    """
    keys, of = SHAPES[family].network, diffusers.UNet2DConditionModel
    with torch.device("meta"):
        network: Any = diffusers.SD3Transformer2DModel if family == "sd3" else of
        count = sum(p.numel() for p in network(**keys).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.1)
