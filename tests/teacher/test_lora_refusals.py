"""LoRA files that are not read say which kind they are, or which of their layers does not fit."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from esd_splat.errors import TeacherError
from esd_splat.teacher import StableDiffusion
from esd_splat.teacher.loading import quiet
from esd_splat.teacher.lora_files import find_lora
from esd_splat.teacher.random_weights import save_blank


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blank(tmp_path_factory.mktemp("refusals") / "sd", "tiny-sd")


def _documented() -> list[str]:
    """The phrases in the table of refusals in ``docs/teachers.md``."""
    text = (Path(__file__).parents[2] / "docs" / "teachers.md").read_text(encoding="utf-8")
    table = text.partition("These are refused:")[2].partition("\n\n## ")[0]
    said = "".join(line.split("|")[2] for line in table.splitlines() if line.startswith("|"))
    return re.findall("`([^`]+)`", said)


def _check_message(caught: pytest.ExceptionInfo[TeacherError]) -> None:
    message = str(caught.value)
    assert "\n" not in message
    assert any(phrase in message for phrase in _documented()), f"not in the table: {message}"


def _fuse(model: Path, lora: Path) -> None:
    with quiet():
        loaded = StableDiffusion(model=str(model)).source().load(torch.float32)
        find_lora(str(lora)).fuse(loaded.family, loaded.parts)


def test_the_settings_of_peft_may_state_what_is_not_read(tmp_path: Path) -> None:
    lora = {"base_model.model.x.lora_A.weight": torch.ones(1, 1)}
    lora["base_model.model.x.lora_B.weight"] = torch.ones(1, 1)
    save_file(lora, tmp_path / "adapter_model.safetensors")
    for settings, message in (
        ({}, "has no readable lora_alpha"),
        ({"peft_type": "LOHA", "lora_alpha": 1}, "is a 'LOHA' of PEFT, which is not read"),
        ({"use_dora": True, "lora_alpha": 1}, "is a DoRA in PEFT's layout"),
        ({"init_lora_weights": "pissa", "lora_alpha": 1}, "init_lora_weights is 'pissa'"),
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
        with pytest.raises(TeacherError, match=message) as caught:
            find_lora(str(tmp_path)).check()
        _check_message(caught)


PLACE = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
PAIR = {f"{PLACE}.lora_up.weight": [16, 2], f"{PLACE}.lora_down.weight": [2, 16]}
DOTTED = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({f"{PLACE}.hada_w1_a": [16, 2]}, "is a LoHa of LyCORIS, which is not read"),
        ({f"{PLACE}.lokr_w1": [2, 2]}, "is a LoKr of LyCORIS"),
        ({f"{PLACE}.lora_mid.weight": [2, 2, 3, 3]}, "is a LoCon of LyCORIS with a mid layer"),
        ({f"{PLACE}.dora_scale": [16, 1]}, "is a DoRA in kohya's layout"),
        ({f"{DOTTED}.lora_magnitude_vector": [16]}, "is a DoRA in PEFT's layout"),
        ({f"{DOTTED}.lora_magnitude_vector.default.weight": [16]}, "is a DoRA in PEFT's layout"),
        ({f"{PLACE}.oft_blocks": [2, 2]}, "is an OFT"),
        ({f"{PLACE}.on_input": []}, r"is an \(IA\)\^3"),
        ({f"{PLACE}.a1.weight": [2, 2]}, "is a GLoRA of LyCORIS"),
        ({f"{PLACE}.diff": [16, 16]}, "is a file of whole differences of weights"),
        ({f"{DOTTED}.lora_embedding_A": [2, 16]}, "is a LoRA of token embeddings"),
        (
            {"bundle_emb.owl.string_to_param.*": [2, 16]},
            r"is a LoRA of OneTrainer .*\(bundle_emb\) beside it",
        ),
        ({"emb_params": [2, 16]}, r"is an embedding of new tokens \(textual inversion\)"),
        ({"unet:0:up": [16, 2]}, "is a LoRA of cloneofsimo"),
        ({f"{DOTTED}.lora_B.bias": [16]}, "has 1 weight that is no part of a LoRA that is read"),
        ({f"{DOTTED[:-1]}k.lora_A.weight": [2, 16]}, r"lacks the up \(lora_B\) of the layer"),
        ({f"{DOTTED[:-1]}k.lora_B.weight": [2, 16]}, r"lacks the down \(lora_A\) of the layer"),
        ({f"{DOTTED[:-1]}k.alpha": []}, r"lacks the up \(lora_B\) of the layer"),
        (
            {f"{DOTTED}.lora_A.{name}.weight": [2, 16] for name in ("one", "two")},
            "has two weights for one place, .* give a file with one LoRA",
        ),
    ],
)
def test_other_kinds_are_named_unread(
    tmp_path: Path, more: dict[str, list[int]], message: str
) -> None:
    """From the header alone, also if the rest of the file is a LoRA."""
    shapes = PAIR | more
    save_file(
        {key: torch.zeros(shape) for key, shape in shapes.items()}, tmp_path / "x.safetensors"
    )
    with pytest.raises(TeacherError, match=f"x.safetensors {message}") as caught:
        find_lora(str(tmp_path)).check()
    _check_message(caught)
    assert "another" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{PLACE}.alpha": torch.tensor(torch.nan)}, "the alpha of its layer .* is not a number"),
        (
            {f"{PLACE}.lora_up.weight": torch.ones(16, 3)},
            r"float32 \[16, 3\] and down float32 \[2,",
        ),
        ({f"{PLACE}.lora_down.weight": torch.ones(2, 24)}, r"weights have the shape \[16, 16\]"),
        ({f"{PLACE}.lora_up.weight": torch.ones(16, 2).char()}, r"has up int8 \[16, 2\]"),
        ({f"{PLACE}.lora_up.weight": torch.ones(16, 2) / 0}, "overflow in torch.float32, or is no"),
        ({f"{PLACE}.lora_up.weight": torch.zeros(16, 2)}, "changes nothing: in each layer, up or"),
        (
            {f"{DOTTED}.lora_{end}.weight": torch.ones(16, 16) for end in "AB"},
            "one layer of this model twice, as 'lora_unet_.*' and 'unet",
        ),
        (
            {f"lora_te2_text_projection.lora_{e}.weight": torch.ones(9, 9) for e in ("up", "down")},
            "1 of its 2 layers are not in this model, such as 'lora_te2_text_projection'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_layer(
    model: Path, tmp_path: Path, change: dict[str, Tensor], message: str
) -> None:
    weights = {key: torch.ones(shape) for key, shape in PAIR.items()}
    save_file(weights | change, tmp_path / "x.safetensors")
    with pytest.raises(TeacherError, match=message) as caught:
        _fuse(model, tmp_path)
    _check_message(caught)


@pytest.mark.parametrize("wrong", [["x"], {"(": 1}, {".*": "x"}, {".*": {}}])
def test_alphas_of_peft_that_cannot_be_read_are_refused(
    model: Path, tmp_path: Path, wrong: object
) -> None:
    place = "base_model.model." + DOTTED.removeprefix("unet.")
    pair = {f"{place}.lora_{end}.weight": torch.ones(16, 16) for end in "AB"}
    save_file(pair, tmp_path / "x.safetensors")
    settings = {"lora_alpha": 1, "alpha_pattern": wrong}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(TeacherError, match="state no alpha that can be read") as caught:
        _fuse(model, tmp_path)
    _check_message(caught)


def test_messages_show_names_from_a_file_readably(model: Path, tmp_path: Path) -> None:
    weights = {f"a\n\x1b[31m{'b' * 500}.lora_{end}.weight": torch.ones(2, 2) for end in "AB"}
    save_file(weights, tmp_path / "x.safetensors", {"ss_base_model_version": "\x1b[31mX\ny"})
    with pytest.raises(TeacherError, match=r"says that it is for '\\x1b\[31mX y'") as caught:
        _fuse(model, tmp_path)
    assert str(caught.value).isprintable()
    assert "b" * 200 not in str(caught.value)
