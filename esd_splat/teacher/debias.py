"""Prompt debiasing (Debiased-SDS, Hong et al., arXiv:2303.15413): words that contradict a view.

Images of a smiling owl hardly ever show it from behind, so "smiling" draws the teacher to the front
even when its prompt says "back view". A masked language model knows which words favour which view.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.errors import TeacherError, reason
from esd_splat.teacher.loading import local_folder, quiet, reach_hub
from esd_splat.teacher.view_prompts import VIEWS

SENTENCE = "This image is depicting a {mask} view of {prompt}"
"""The sentence that the language model completes, as in threestudio."""
KEPT_ABOVE = 0.95
"""A word is dropped for a view if the view's probability with the word is below this times the mean
of the probabilities with and without it. The value is threestudio's."""

ViewScore = Callable[[Sequence[str]], Float[Tensor, "n 4"]]
"""Returns the probability of each of ``VIEWS`` for each prompt; each row sums to 1."""


def debias(prompt: str, score: ViewScore) -> list[str]:
    """Return ``prompt`` for each of ``VIEWS``, without the words that make that view unlikely.

    A word is dropped if ``p / ((p + p_without) / 2) < 0.95``. Here ``p`` is the probability of the
    view given the whole prompt, and ``p_without`` given the prompt without this word. Each word is
    judged on its own.
    """
    words = prompt.split()
    others = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
    p, p_without = score([" ".join(words), *others]).split([1, len(words)])
    keeps = p / p_without.lerp(p, 0.5) >= KEPT_ABOVE
    # If no word is left for a view, use the whole prompt: the teacher must know what to draw.
    return [
        " ".join(word for word, kept in zip(words, column, strict=True) if kept) or prompt
        for column in keeps.T.tolist()
    ]


def check_language_model(name: str | None) -> None:
    """Check that ``name``, if it is a folder and not a hub id, exists.

    Raises:
        TeacherError: the folder does not exist.
    """
    folder = local_folder(name) if name else None
    if folder is not None and not folder.is_dir():
        raise TeacherError(
            f"teacher.views.language_model: no folder {name!r}; give a folder saved by "
            "transformers, a hub id (owner/name), or null"
        )


def load_language_model(name: str) -> ViewScore:
    """Load a masked language model such as BERT from a folder or the hub, and return its scores.

    It runs on the CPU.

    Raises:
        TeacherError: the model cannot be loaded, or does not know the view words.
    """
    check_language_model(name)
    with quiet():
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        source = str(local_folder(name) or name)
        try:
            if local_folder(name) is None:
                source = reach_hub(name, "config.json", "model.safetensors")
            # Never a pickle, and never code of the model's own, which transformers offers to run.
            tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            model, info = AutoModelForMaskedLM.from_pretrained(
                source, use_safetensors=True, output_loading_info=True, trust_remote_code=False
            )
            if lacking := sorted(info["missing_keys"]):
                raise ValueError(f"its file lacks {len(lacking)} weights, such as {lacking[0]}")
            if tokenizer.mask_token is None:
                raise ValueError("its tokenizer has no mask token")
            # The leading space matters: some tokenizers have other tokens for words after a space.
            pieces = [tokenizer(f" {v}", add_special_tokens=False).input_ids for v in VIEWS]
            for view, ids in zip(VIEWS, pieces, strict=True):
                if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
                    raise ValueError(f"it has no single token for {view!r}")
        # Errors of the hub, network, safetensors and shapes have no closer common base class.
        except Exception as error:
            raise TeacherError(
                f"teacher.views.language_model: cannot use {name!r}: {reason(error)}. Give a "
                "masked language model with safetensors weights, such as "
                "google-bert/bert-base-uncased"
            ) from error
    views = torch.tensor(pieces).squeeze(1)
    model.eval()

    @torch.no_grad()
    def score(prompts: Sequence[str]) -> Float[Tensor, "n 4"]:
        texts = [SENTENCE.format(mask=tokenizer.mask_token, prompt=p) for p in prompts]
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        place = (tokens.input_ids == tokenizer.mask_token_id).int().argmax(1)  # the first one
        logits = model(**tokens).logits[torch.arange(len(place)), place]
        return logits[:, views].float().softmax(1)

    return score
