"""A picture in the prompt counts as in diffusers' own pipelines, where a picture belongs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from esd_splat import load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.step_config import StepConfig
from esd_splat.errors import TeacherError
from esd_splat.run.measure.judges.teacher import TeacherJudge
from esd_splat.teacher import StableDiffusion
from esd_splat.teacher.ip_adapter import read_picture
from esd_splat.teacher.latent import LatentTeacher, Picture
from esd_splat.teacher.random_weights import save_blank
from tests.teacher.adapters import TOKENS, save_adapter, save_encoder
from tests.tiny import IMAGE_SIZE

CPU = torch.device("cpu")
PIPELINES = {"sd": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
PROMPT, NEGATIVE = "a red owl", "blue"
ADAPTER = "models/ip-adapter_sd15.safetensors"
ENCODER = "models/image_encoder/model.safetensors"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, an adapter of each kind for each of them, and a picture that is not square."""
    root = tmp_path_factory.mktemp("pictures")
    Image.effect_noise((50, 40), 80).save(root / "owl.png")
    for name in PIPELINES:
        model = save_blank(root / name, f"tiny-{name}")
        for kind in TOKENS:
            save_adapter(root / f"{name}-{kind}", model, kind)
    return root


def _config(root: Path, family: str = "sd", kind: str = "plain", **more: Any) -> StableDiffusion:
    keys: dict[str, Any] = {"model": str(root / family), "image": str(root / "owl.png")}
    keys |= {"image_adapter": str(root / f"{family}-{kind}"), **more}
    return StableDiffusion(**keys)


def _load(config: StableDiffusion, dtype: torch.dtype = torch.float32) -> LatentTeacher:
    config.check({})
    teacher = config.load(CPU, dtype)
    assert isinstance(teacher, LatentTeacher)
    return teacher


def _picture(teacher: LatentTeacher) -> Picture:
    assert teacher.picture is not None
    return teacher.picture


@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize("family", PIPELINES)
def test_it_counts_as_it_does_in_the_pipeline(root: Path, family: str, kind: str) -> None:
    """Both halves of guidance, as the pipeline asks its network for them in a call."""
    pipeline: Any = getattr(diffusers, PIPELINES[family]).from_pretrained(root / family)
    pipeline.set_progress_bar_config(disable=True)
    (file,) = (root / f"{family}-{kind}").rglob("ip-adapter*")
    pipeline.load_ip_adapter(
        str(root / f"{family}-{kind}"), subfolder=file.parent.name, weight_name=file.name
    )
    pipeline.set_ip_adapter_scale(0.7)
    asked: list[tuple[Tensor, Tensor, Tensor]] = []
    pipeline.unet.register_forward_hook(
        lambda module, inputs, output: asked.append((*inputs[:2], output[0]))
    )
    pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        ip_adapter_image=diffusers.utils.load_image(str(root / "owl.png")),
        num_inference_steps=2,
        guidance_scale=5.0,
        output_type="latent",
        generator=torch.Generator().manual_seed(0),
    )
    teacher = _load(_config(root, family, kind, image_scale=0.7))
    told = torch.cat([teacher.without_picture(teacher.embed([NEGATIVE])), teacher.embed([PROMPT])])
    assert len(asked) == 2
    for noisy, t, known in asked:
        with torch.no_grad():
            found = teacher.eps(noisy, t.expand(2), told)
            plain = teacher.eps(noisy, t.expand(2), teacher.without_picture(told))
        torch.testing.assert_close(found, known)
        assert (plain[1] - known[1]).abs().max() > 0.01, "the picture counts"
    assert f"{file} at 0.7: {TOKENS[kind]} image tokens in 4 layers" in teacher.notes[0]


def _step_config(root: Path, *more: str, picture: bool = True) -> StepConfig:
    keys = [f"teacher.model={root / 'sd'}", f"cameras.size={IMAGE_SIZE}", "batch=2"]
    keys += ["init.count=20", "lora.rank=2", f"prompt={PROMPT}", f"negative_prompt={NEGATIVE}"]
    keys += ["backend=reference", "optim.means=0.01"]
    if not any("guidance_scale" in key for key in more):
        keys += ["teacher.guidance_scale=3"]
    if picture:
        keys += [f"teacher.image={root / 'owl.png'}", f"teacher.image_adapter={root / 'sd-plain'}"]
    return StepConfig.of(load_config(None, [*keys, *more]))


def _run(config: StepConfig, dtype: torch.dtype = torch.float32) -> Distillation:
    memory = config.memory
    return Distillation(config, config.teacher.load(CPU, dtype, memory), "reference")


@pytest.mark.parametrize("loss", ["sds", "{name: esd, entropy_weight: 0.5}"])
def test_at_scale_0_every_bit_is_as_without(root: Path, loss: str) -> None:
    none = _run(_step_config(root, f"loss={loss}", picture=False))
    zero = _run(_step_config(root, f"loss={loss}", "teacher.image_scale=0"))
    some = _run(_step_config(root, f"loss={loss}", "teacher.image_scale=0.5"))
    for run in (none, zero, some):
        for _ in range(3):
            run.step()
    assert torch.equal(none.scene.means, zero.scene.means)
    assert not torch.equal(none.scene.means, some.scene.means)
    if none.lora and zero.lora:
        pairs = zip(none.lora.parameters, zero.lora.parameters, strict=True)
        assert all(torch.equal(*pair) for pair in pairs)


VIEW_WORDS = "teacher.views={enabled: true, perp_neg: {enabled: true}}"


@pytest.mark.parametrize(
    ("keys", "passes"),
    # For two views: + with the picture, - without. The LoRA's training is a pass of its own.
    [
        (["loss=sds"], ["++ --"]),
        (["loss=sds", "teacher.guidance_scale=1"], ["++"]),
        (["loss=vsd"], ["++ -- ++", "++"]),
        (["loss={name: esd, entropy_weight: 0.5}"], ["++ -- ++ ++", "++"]),
        (["loss={name: esd, entropy_weight: 0.5, null_text: empty}"], ["++ -- ++ --", "++"]),
        (["loss={name: csd, negative: 0.5}"], ["++ -- --"]),
        (["loss=asd"], ["++ -- ++"]),
        # Perp-Neg's texts for other views keep the picture, so that they differ in words only.
        (["loss=sds", VIEW_WORDS, "seed=1"], ["++ -- ++ ++"]),
    ],
)
def test_each_prediction_is_given_what_it_should(
    root: Path, keys: list[str], passes: list[str]
) -> None:
    """The unconditional half has no picture, and a hidden camera hides nothing else."""
    run = _run(_step_config(root, *keys, "memory.trace=false"))
    seen: list[str] = []
    known = dict(zip("+-", _picture(run.teacher), strict=True))  # pyright: ignore[reportArgumentType]

    def look(module: Any, inputs: Any, given: dict[str, Any]) -> None:
        (rows,) = given["added_cond_kwargs"]["image_embeds"]
        marks = ""
        for row in rows:
            # A text between two view words is a mixture, which rounds the same picture.
            (mark,) = [mark for mark, is_this in known.items() if torch.allclose(row, is_this)]
            marks += mark
        seen.append(" ".join(marks[i : i + 2] for i in range(0, len(marks), 2)))

    run.teacher.network.register_forward_pre_hook(look, with_kwargs=True)
    run.step()
    assert seen == passes


def test_the_judge_compares_words_without_the_picture(root: Path) -> None:
    config = _config(root)
    teacher = _load(config)
    judge: Any = TeacherJudge().load(teacher, config)
    rows, texts = _picture(teacher).split(judge._told(PROMPT))
    assert len(texts.unique(dim=0)) == 3
    assert torch.equal(rows, _picture(teacher).withheld.expand(3, -1, -1))


def test_saving_memory_changes_nothing_but_rounding(root: Path) -> None:
    loss, saving = "loss={name: esd, entropy_weight: 0.5}", "views_at_once: 1, checkpointing: true"
    memory = f"memory={{{saving}}}"
    whole, saved = (_run(_step_config(root, loss, *more)) for more in ([], [memory]))
    for _ in range(2):
        expected, found = whole.step(), saved.step()
        assert found == pytest.approx(expected, rel=1e-3)


def test_half_precision_takes_a_picture_too(root: Path) -> None:
    teacher, noisy = _load(_config(root)), torch.randn(1, 4, 4, 4)
    half, t = _load(_config(root), torch.bfloat16), torch.tensor([500])
    with torch.no_grad():
        found, known = (x.eps(noisy, t, x.embed([PROMPT])) for x in (half, teacher))
    torch.testing.assert_close(found, known, atol=0.02, rtol=0.02)
    config = _step_config(root, "loss={name: esd, entropy_weight: 0.5}", "lora.precision=32")
    assert all(value == value for value in _run(config, torch.bfloat16).step().values())


def test_pictures_are_read_as_diffusers_reads_them(tmp_path: Path) -> None:
    """A photograph that lies on its side, and a drawing with alpha."""
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.effect_noise((50, 40), 80).save(tmp_path / "photo.jpg", exif=turned)
    Image.effect_noise((30, 30), 80).convert("RGBA").save(tmp_path / "drawing.png")
    assert read_picture(str(tmp_path / "photo.jpg")).size == (40, 50)
    for file in tmp_path.iterdir():
        assert read_picture(str(file)) == diffusers.utils.load_image(str(file))


def test_an_adapter_finds_the_encoder_that_it_was_trained_with(root: Path, tmp_path: Path) -> None:
    """In ``h94/IP-Adapter`` some adapters of sdxl_models need the encoder of models."""
    shutil.copytree(root / "sdxl-plain", tmp_path / "ip")
    beside = tmp_path / "ip" / "sdxl_models" / "image_encoder"
    beside.rename(tmp_path / "right")
    save_encoder(beside, projection_dim=12)
    config = _config(root, "sdxl", image_adapter=str(tmp_path / "ip"))
    with pytest.raises(TeacherError, match=r"takes 10 .*sdxl_models/image_encoder makes 12; put"):
        _load(config)
    shutil.copytree(tmp_path / "right", tmp_path / "ip" / "models" / "image_encoder")
    (file,) = (tmp_path / "ip" / "sdxl_models").glob("*.safetensors")
    known = _load(_config(root, "sdxl"))
    for place in (tmp_path / "ip", file):
        found = _load(_config(root, "sdxl", image_adapter=str(place)))
        assert torch.equal(found.embed([PROMPT]), known.embed([PROMPT]))


def _rewrite(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path], None]:
    """Return what changes the weights of an adapter."""

    def edit(folder: Path) -> None:
        weights = load_file(folder / ADAPTER)
        change(weights)
        save_file(weights, folder / ADAPTER)

    return edit


def _as_face_id(weights: dict[str, Tensor]) -> None:
    weights["image_proj.proj.0.weight"] = weights.pop("image_proj.proj.weight")


def _as_lora(weights: dict[str, Tensor]) -> None:
    weights.clear()
    weights["unet.lora_A.weight"] = torch.zeros(1)


def _cut_off(folder: Path) -> None:
    (folder / ENCODER).write_bytes((folder / ENCODER).read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "at_check", "message"),
    [
        (lambda at: shutil.rmtree(at / "models/image_encoder"), True, "has no image encoder"),
        (lambda at: (at / ENCODER).unlink(), False, "has no image encoder .* no models/image_enc"),
        (_cut_off, False, "cannot load models/image_encoder"),
        (lambda at: (at / ADAPTER).unlink(), True, f"has no {ADAPTER}; give the path"),
        (lambda at: (at / ADAPTER).write_bytes(b"x"), True, "cannot read .*cut off"),
        (_rewrite(_as_face_id), True, "is an IP-Adapter that takes no picture, such as a FaceID"),
        (_rewrite(_as_lora), True, "is not an IP-Adapter: it has weights such as 'unet.lora_A.wei"),
        (_rewrite(lambda w: w.__delitem__("ip_adapter.1.to_k_ip.weight")), False, "has 3 layers"),
        (_rewrite(lambda w: w.__delitem__("image_proj.norm.bias")), False, "cannot load .*norm"),
    ],
)
def test_a_damaged_adapter_is_one_line(
    root: Path, tmp_path: Path, spoil: Callable[[Path], None], at_check: bool, message: str
) -> None:
    spoil(shutil.copytree(root / "sd-plain", tmp_path / "ip"))
    config = _config(root, image_adapter=str(tmp_path / "ip"))
    with pytest.raises(TeacherError, match=rf"^teacher\.image_adapter: .*{message}") as caught:
        config.check({}) if at_check else _load(config)
    assert "\n" not in str(caught.value)


def test_an_adapter_for_another_family_is_refused(root: Path) -> None:
    (file,) = (root / "sdxl-plain").rglob("ip-adapter*.safetensors")
    message = "has 4 layers for 40 values per token, and this teacher has 4 for 16 .*; give an"
    with pytest.raises(TeacherError, match=message):
        _load(_config(root, image_adapter=str(file)))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"image": "nowhere.png"}, "image: no file 'nowhere.png'; give a picture"),
        ({"image": "ROOT/notes.txt"}, "image: cannot read .*notes.txt: cannot identify .*; give a"),
        ({"image_adapter": "ROOT/ip.bin"}, "image_adapter: .*ip.bin is a pickle, and reading"),
        ({"image_adapter": "./nowhere"}, "image_adapter: no file or folder './nowhere'; give a"),
        ({"image_adapter": "a/b/c.txt"}, "image_adapter: no file or folder 'a/b/c.txt'; give a"),
        ({"model": "figurines"}, "image: must be left out for the embedded teacher, which takes"),
        ({"model": "ROOT/sd3"}, "image: must be left out for Stable Diffusion 3, which takes no"),
        ({"model": "ROOT/views"}, "image: must be left out for multi-view diffusion, which takes"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_loading(
    root: Path, keys: dict[str, str], message: str
) -> None:
    (root / "notes.txt").write_text("not a picture")
    for family in ("sd3", "views"):
        if str(keys.get("model")).endswith(family) and not (root / family).exists():
            save_blank(root / family, f"tiny-{family}")
    keys = {key: value.replace("ROOT", str(root)) for key, value in keys.items()}
    with pytest.raises(TeacherError, match=rf"^teacher\.{message}") as caught:
        _config(root, **keys).check({})
    assert "\n" not in str(caught.value)


def test_settings_of_a_picture_need_one() -> None:
    with pytest.raises(ValueError, match=r"image_scale: must be left out .*\nimage_adapter: must"):
        StableDiffusion(image_scale=0.5, image_adapter="some/adapter")
