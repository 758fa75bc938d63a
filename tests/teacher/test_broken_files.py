"""A damaged file of a teacher is read or refused in one line."""

import json
import shutil
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from safetensors.torch import save_file

from esd_splat.errors import TeacherError
from esd_splat.teacher import StableDiffusion
from esd_splat.teacher.families import family_by_index
from esd_splat.teacher.lora_files import find_lora
from tests.damage import check_message, damaged

INDEX = b'{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'
WORDS = b'{"words": ["a", "red", "owl"], "kinds": ["owl"], "colours": ["red"]}'
LORA = {f"unet.down_blocks.0.attn1.to_q.lora_{end}.weight": torch.ones(2, 2) for end in ("A", "B")}


@given(data=st.data())
def test_a_damaged_index(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("model") / "model_index.json"
    path.write_bytes(data.draw(damaged(INDEX)))
    try:
        family_by_index(path)
    except TeacherError as error:
        check_message(error)


@given(data=st.data())
def test_a_damaged_vocabulary(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("model")
    (folder / "vocabulary.json").write_bytes(data.draw(damaged(WORDS)))
    try:
        found = StableDiffusion(model=str(folder)).vocabulary
    except TeacherError as error:
        check_message(error)
    else:
        assert found is not None


@given(data=st.data())
def test_a_damaged_lora(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("lora") / "a.safetensors"
    settings = json.dumps({"unet.lora_alpha": 1})
    save_file(LORA, path, metadata={"lora_adapter_metadata": settings})
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    try:
        find_lora(str(path)).check()
    except TeacherError as error:
        check_message(error)


@pytest.mark.parametrize("length", [2**31, -1, "many", 1.5])
def test_a_length_that_would_fill_the_memory_is_refused(
    model: Path, tmp_path: Path, length: object
) -> None:
    shutil.copytree(model, tmp_path / "model")
    file = tmp_path / "model" / "tokenizer" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": length}))
    with pytest.raises(TeacherError, match="cannot load the tokenizer of") as caught:
        StableDiffusion(model=str(tmp_path / "model")).load(torch.device("cpu"), torch.float32)
    check_message(caught.value)
