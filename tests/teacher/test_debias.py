"""Which words are dropped for a view: the rule on made-up scores, and a small language model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from esd_splat.distill.guidance import Guidance
from esd_splat.errors import TeacherError
from esd_splat.teacher import StableDiffusion
from esd_splat.teacher.debias import SENTENCE, debias, load_language_model
from esd_splat.teacher.view_prompts import VIEWS, ViewPrompts
from tests.tiny import save_tiny

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("this", "image", "is", "depicting", "a", "view", "of", "red", "smiling", "owl")


def _save_bert(folder: Path, words: Sequence[str] = (*WORDS, *VIEWS)) -> Path:
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *words))}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
        sizes |= {"num_hidden_layers": 1, "initializer_range": 0.3}  # so that words matter
        config = BertConfig(vocab_size=len(vocabulary), **cast(Any, sizes))
        BertForMaskedLM(config).save_pretrained(folder)
    BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return folder


def test_a_word_goes_where_it_makes_the_view_unlikely() -> None:
    """Without "smiling" the back's share rises from 0.1 to 0.2: 0.1 / 0.15 is below 0.95."""

    def score(prompts: Sequence[str]) -> torch.Tensor:
        shares = {True: [0.6, 0.2, 0.1, 0.1], False: [0.5, 0.2, 0.2, 0.1]}
        return torch.tensor([shares["smiling" in prompt] for prompt in prompts])

    whole = "a smiling  owl"
    assert debias(whole, score) == ["a smiling owl", "a smiling owl", "a owl", "a smiling owl"]
    assert debias("smiling", score)[2] == "smiling", "something must be left to draw"


@pytest.mark.parametrize(("without", "told"), [(0.11, "red owl"), (0.112, "owl")])
def test_the_threshold(without: float, told: str) -> None:
    """0.1 / 0.105 = 0.952 stays and 0.1 / 0.106 = 0.943 goes."""

    def score(prompts: Sequence[str]) -> torch.Tensor:
        back = torch.tensor([0.1 if "red" in prompt else without for prompt in prompts])
        return torch.stack([0.8 - back, back, *[torch.full_like(back, 0.1)] * 2], dim=1)

    assert debias("red owl", score)[1] == told


def test_the_scores_are_the_models_own_at_the_mask(tmp_path: Path) -> None:
    """Softmax over the whole vocabulary, then normalized among the views, whatever the padding."""
    from transformers import BertForMaskedLM, BertTokenizer

    folder = _save_bert(tmp_path / "bert")
    prompts = ["a smiling red owl", "owl"]
    shares = load_language_model(str(folder))(prompts)
    model: Any = BertForMaskedLM.from_pretrained(folder).eval()
    tokenizer = BertTokenizer.from_pretrained(folder)
    for prompt, share in zip(prompts, shares, strict=True):
        tokens = tokenizer(SENTENCE.format(mask="[MASK]", prompt=prompt), return_tensors="pt")
        with torch.no_grad():
            likely = model(**tokens).logits[0, 6].softmax(0)  # [CLS] this image is depicting a _
        among = likely[tokenizer.convert_tokens_to_ids(list(VIEWS))]
        torch.testing.assert_close(share, among / among.sum())
    assert (shares[0] - shares[1]).abs().max() > 1e-4


def test_the_teacher_is_told_what_is_left(tmp_path: Path) -> None:
    folder = str(_save_bert(tmp_path / "bert"))
    views = ViewPrompts(enabled=True, language_model=folder)
    config = StableDiffusion(model=str(save_tiny(tmp_path / "tiny")), views=views)
    teacher = config.load(torch.device("cpu"), torch.float32)
    left = debias("a smiling red owl", load_language_model(folder))
    assert set(left) != {"a smiling red owl"}, "this model must object to something"
    guidance = Guidance(config, teacher, "a smiling red owl", "")
    assert guidance.texts == [f"{p}, {v} view" for p, v in zip(left, VIEWS, strict=True)]
    assert torch.equal(guidance.positive, teacher.embed(guidance.texts))


def test_a_model_that_cannot_help_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"language_model: no folder './nowhere'"):
        StableDiffusion(views=ViewPrompts(enabled=True, language_model="./nowhere")).check({})
    (tmp_path / "empty").mkdir()
    no_views, pickled = _save_bert(tmp_path / "few", WORDS), _save_bert(tmp_path / "pickled")
    weights = pickled / "model.safetensors"
    weights.unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    for folder, why in ((tmp_path / "empty", ""), (no_views, "'front'"), (pickled, "")):
        with pytest.raises(TeacherError, match=f"language_model: cannot use.*{why}") as caught:
            load_language_model(str(folder))
        assert "\n" not in str(caught.value)


def test_the_model_needs_the_view_words() -> None:
    with pytest.raises(ValueError, match="enabled: must be true for language_model"):
        ViewPrompts(language_model="x")
