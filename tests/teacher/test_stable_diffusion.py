"""Loading and calling a small Stable Diffusion folder that is made here."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from esd_splat.distill.guidance import guide
from esd_splat.errors import PromptError, TeacherError
from esd_splat.teacher import StableDiffusion, Teacher
from esd_splat.teacher.noise import TimestepRange, add_noise, alpha_sigma
from tests.tiny import IMAGE_SIZE, save_tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher(model: Path) -> Teacher:
    return StableDiffusion(model=str(model)).load(CPU, torch.float32)


def _latents(seed: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 4, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_guidance_is_what_diffusers_defines() -> None:
    """u + s (c - u) is the negative prompt at 0, the prompt at 1, and linear everywhere."""
    c, u = _latents(0), _latents(1)
    torch.testing.assert_close(guide(c, u, 0.0), u)
    torch.testing.assert_close(guide(c, u, 1.0), c)
    torch.testing.assert_close(guide(c, u, 7.5), 7.5 * c - 6.5 * u)


def test_v_prediction_is_converted_at_the_border(model: Path, tmp_path: Path) -> None:
    """Both folders hold the same network; one says that it predicts v. Then eps = a v + s x_t."""
    says_v = save_tiny(tmp_path / "v", prediction_type="v_prediction")
    eps_teacher = StableDiffusion(model=str(model)).load(CPU, torch.float32)
    v_teacher = StableDiffusion(model=str(says_v)).load(CPU, torch.float32)
    noisy, t, words = _latents(1), torch.tensor([100, 700]), eps_teacher.embed(["a cat"] * 2)
    with torch.no_grad():
        v = eps_teacher.output(noisy, t, words)
        a, s = alpha_sigma(v_teacher.alphas_cumprod, t)
        torch.testing.assert_close(v_teacher.eps(noisy, t, words), a * v + s * noisy)
    clean, noise = _latents(2), _latents(3)
    torch.testing.assert_close(v_teacher.target(clean, noise, t), a * noise - s * clean)
    torch.testing.assert_close(eps_teacher.target(clean, noise, t), noise)


def test_a_schedule_that_ends_without_signal_has_clean_latents_all_the_same(tmp_path: Path) -> None:
    file = save_tiny(tmp_path / "model", "v_prediction") / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rescale_betas_zero_snr": True}))
    teacher = StableDiffusion(model=str(tmp_path / "model")).load(CPU, torch.float32)
    noisy, t = _latents(0), torch.tensor([998, 999])
    with torch.no_grad():
        eps = teacher.eps(noisy, t, teacher.embed(["a cat"] * 2))
    assert teacher.predict_clean(noisy, eps, t).isfinite().all()
    now = TimestepRange(max=0.9999, schedule="dreamtime").draw(
        0.9, 2, teacher.alphas_cumprod, torch.Generator()
    )
    assert (now < 998).all(), "the timestep decreases"


def test_the_clean_latents_come_back_from_the_noise_that_was_drawn(teacher: Teacher) -> None:
    clean, noise, t = _latents(0), _latents(1), torch.tensor([5, 600])
    noisy = add_noise(clean, noise, teacher.alphas_cumprod, t)
    torch.testing.assert_close(teacher.predict_clean(noisy, noise, t), clean, atol=1e-4, rtol=1e-4)


def test_every_text_is_encoded_once(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    first = teacher.embed(["a blue owl", "a red cat", "a blue owl"])
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])
    monkeypatch.setattr(teacher, "encode_text", None)
    assert torch.equal(teacher.embed(["a blue owl", "a red cat"]), first[:2])


def test_latents_are_the_scaled_mean_and_carry_gradients(teacher: Teacher) -> None:
    images = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE, requires_grad=True)
    latents = teacher.encode(images)
    mean = teacher._vae.encode(2 * images - 1).latent_dist.mean  # pyright: ignore
    torch.testing.assert_close(latents, 0.5 * mean)
    assert torch.equal(latents, teacher.encode(images)), "the mean, not a sample"
    latents.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert teacher.encode(torch.rand(1, 3, 40, 40)).shape == (1, 4, 4, 4), "resized"


def test_words_outside_the_vocabulary_are_refused_before_loading(
    model: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(model, tmp_path / "model")
    words = {"words": ["a", "red", "owl", ","], "kinds": ["owl"], "colours": ["red"]}
    (model / "vocabulary.json").write_text(json.dumps(words))
    teacher = StableDiffusion(model=str(model))
    teacher.check({"prompt": "A Red, owl", "negative_prompt": ""})
    with pytest.raises(PromptError, match=r"know 'corgi', 'wearing'. It knows owl in red.*teacher"):
        teacher.check({"prompt": "a red owl", "negative_prompt": "a corgi wearing red"})


def test_bad_folders_are_named_in_one_line(model: Path, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"no folder './nowhere'.*figurines"):
        StableDiffusion(model="./nowhere").check({})
    (tmp_path / "empty").mkdir()
    with pytest.raises(TeacherError, match="no tokenizer, text_encoder, vae, unet, scheduler"):
        StableDiffusion(model=str(tmp_path / "empty")).check({})

    cut = tmp_path / "cut"
    shutil.copytree(model, cut)
    weights = cut / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(TeacherError, match="cannot load the unet") as caught:
        StableDiffusion(model=str(cut)).load(CPU, torch.float32)
    assert "\n" not in str(caught.value)

    weights.unlink()
    torch.save({}, cut / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(TeacherError, match="cannot load the unet"):
        StableDiffusion(model=str(cut)).load(CPU, torch.float32)


@pytest.mark.parametrize("part", ["text_encoder", "vae", "unet"])
def test_weights_of_another_network_are_refused(model: Path, tmp_path: Path, part: str) -> None:
    """Both libraries would fill missing weights with random numbers, or fail much later."""
    shutil.copytree(model, tmp_path / "model")
    (file,) = (tmp_path / "model" / part).glob("*.safetensors")
    weights = load_file(file)
    weights.pop(sorted(weights)[-1])
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(TeacherError, match=f"cannot load the {part} .* lacks 1 weights, such as"):
        StableDiffusion(model=str(tmp_path / "model")).load(CPU, torch.float32)


def test_a_damaged_vocabulary_is_one_line(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    for text in ("{bad", "{}", "[]"):
        (tmp_path / "model" / "vocabulary.json").write_text(text)
        with pytest.raises(TeacherError, match=r"vocabulary\.json: not a list of words"):
            StableDiffusion(model=str(tmp_path / "model")).check({})


def test_a_network_that_predicts_the_sample_is_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path / "x0", prediction_type="sample")
    with pytest.raises(TeacherError, match="predicts 'sample'; epsilon, v_prediction and flow"):
        StableDiffusion(model=str(tmp_path / "x0")).load(CPU, torch.float32)
