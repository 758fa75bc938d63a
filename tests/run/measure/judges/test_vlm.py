"""A vision-language model as a judge: a tiny Llava with random weights, loaded from a folder."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from esd_splat.errors import JudgeError
from esd_splat.run.measure.judges import JUDGES, SIDES, Judge, VisionLanguage
from esd_splat.run.measure.judges.vlm import QUESTION
from esd_splat.teacher import StableDiffusion, Teacher

WORDS = (
    *("<pad>", "<unk>", "<image>", ":", ".", ",", "?", "USER", "ASSISTANT", "A", "B", "yes", "no"),
    *("Does", "this", "picture", "show", "the", "of", "Answer", "with", "one", "letter"),
    *("front", "side", "back", "a", "red", "owl"),
)
TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
PATCH = 8


def _save_llava(
    folder: Path, words: tuple[str, ...] = WORDS, template: str | None = TEMPLATE
) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    ids = {word: i for i, word in enumerate(words)}
    pieces = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    cast(Any, pieces).pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces, additional_special_tokens=["<image>"], **special
    )
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "initializer_range": 0.3}  # so that the image matters
    vision = CLIPVisionConfig(image_size=2 * PATCH, patch_size=PATCH, **cast(Any, sizes))
    text = LlamaConfig(vocab_size=len(words), num_key_value_heads=2, **cast(Any, sizes))
    config = cast(Any, LlavaConfig)(
        vision_config=vision,
        text_config=text,
        image_token_index=ids["<image>"],
        image_seq_length=4,
        initializer_range=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlavaForConditionalGeneration(config).save_pretrained(folder)
    square = {"height": 2 * PATCH, "width": 2 * PATCH}
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 2 * PATCH}, crop_size=square),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save_llava(tmp_path_factory.mktemp("vlm") / "model")


class _Nowhere(Teacher):
    """Gives only the device."""

    device = torch.device("cpu")

    embed = encode = decode = output = target = eps = cast(Any, None)


def _load(model: str) -> Judge:
    return VisionLanguage(model=model, size=2 * PATCH).load(_Nowhere(), StableDiffusion())


def _images() -> Tensor:
    return torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))


def test_it_is_in_the_table() -> None:
    assert JUDGES["vlm"] is VisionLanguage


def test_the_images_and_the_words_matter(folder: Path) -> None:
    judge = _load(str(folder))
    assert judge.name == f"vlm {folder}"
    shares = judge.sides(_images(), "a red owl", torch.Generator())
    torch.testing.assert_close(shares.sum(1), torch.ones(2))
    assert (shares[0] - shares[1]).abs().max() > 1e-3
    assert (shares - 1 / 3).abs().max() > 1e-3


def test_probabilities_are_the_models_own_for_the_next_token(folder: Path) -> None:
    """Asked again here, through transformers alone."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    judge = _load(str(folder))
    image = _images()[:1, :, :16, :16]
    model: Any = AutoModelForImageTextToText.from_pretrained(folder)
    processor: Any = AutoProcessor.from_pretrained(folder)
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    odds = []
    for side in SIDES:
        asked = []
        for answers in ("A: yes, B: no.", "A: no, B: yes."):
            question = QUESTION.format(side=side, prompt="a red owl", answers=answers)
            said = f"USER: <image> {question} ASSISTANT:"
            inputs = processor(text=[said], images=[[pixels]], return_tensors="pt")
            with torch.no_grad():
                asked.append(model(**inputs).logits[0, -1].log_softmax(0))
        a, b = WORDS.index("A"), WORDS.index("B")
        odds.append((asked[0][a] - asked[0][b] + asked[1][b] - asked[1][a]) / 2)
    expected = torch.stack(odds).softmax(0)
    found = judge.sides(image, "a red owl", torch.Generator())[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_preference_for_a_letter_favours_no_side(folder: Path) -> None:
    judge: Any = _load(str(folder))
    before = judge.sides(_images(), "a red owl", torch.Generator())
    head, letter = judge.model.lm_head, WORDS.index("A")
    head.register_forward_hook(
        lambda *_: _[2] + 5 * torch.nn.functional.one_hot(torch.tensor(letter), len(WORDS))
    )
    after = judge.sides(_images(), "a red owl", torch.Generator())
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)


def test_what_cannot_be_used_is_refused_in_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    lettered = tuple("AA" if word == "A" else word for word in WORDS)
    damaged = _save_llava(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"nothing")
    for model, why in {
        "": "must be given",
        "/no/such/folder": "no folder '/no/such/folder'",
        str(tmp_path): "cannot use",
        "no-such-owner/no-such-model": "cannot use 'no-such-owner/no-such-model'",
        str(damaged): "cannot use",
        str(_save_llava(tmp_path / "letters", lettered)): "no single token for the letter 'A'",
        str(_save_llava(tmp_path / "silent", template=None)): "it has no chat template",
    }.items():
        with pytest.raises(JudgeError, match=r"^judge\.model: ") as caught:
            _load(model)
        assert why in str(caught.value)
        assert "\n" not in str(caught.value)
