"""Prompt debiasing (Debiased-SDS, Hong et al., arXiv:2303.15413): words that contradict a view.

"a smiling owl" is hardly ever seen from behind, and says so to a teacher also where it is told
"back view". A masked language model knows which words favour which view.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.errors import TeacherError
from esd_splat.teacher.loading import local_folder, quiet, reach_hub, reason
from esd_splat.teacher.view_prompts import VIEWS

SENTENCE = "This image is depicting a {mask} view of {prompt}"
"""What the language model completes, as in threestudio."""
KEPT_ABOVE = 0.95
"""A word goes where a view is less likely with it than this times the mean of with and without:
threestudio's value."""

ViewScore = Callable[[Sequence[str]], Float[Tensor, "n 4"]]
"""How likely each of ``VIEWS`` is for each prompt; each row sums to 1."""


def debias(prompt: str, score: ViewScore) -> list[str]:
    """``prompt`` for each of ``VIEWS``, without the words that make this view unlikely.

    A word is dropped where ``p / ((p + p_without) / 2) < 0.95``, with ``p`` the view's share given
    the whole prompt and ``p_without`` given all other words. Each word is judged alone.
    """
    words = prompt.split()
    others = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
    p, p_without = score([" ".join(words), *others]).split([1, len(words)])
    keeps = p / p_without.lerp(p, 0.5) >= KEPT_ABOVE
    # A view that no word survives is told the whole prompt: it must still be told what to draw.
    return [
        " ".join(word for word, kept in zip(words, column, strict=True) if kept) or prompt
        for column in keeps.T.tolist()
    ]


def check_language_model(name: str | None) -> None:
    """Refuse a folder that is not there.

    Raises:
        TeacherError: in one line.
    """
    folder = local_folder(name) if name else None
    if folder is not None and not folder.is_dir():
        raise TeacherError(
            f"teacher.views.language_model: no folder {name!r}; give a folder saved by "
            "transformers, a hub id (owner/name), or null"
        )


def load_language_model(name: str) -> ViewScore:
    """The scores of a masked language model such as BERT, from a folder or a hub id, on the CPU.

    Raises:
        TeacherError: it cannot be loaded, or does not know the view words.
    """
    check_language_model(name)
    with quiet():
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        source = str(local_folder(name) or name)
        try:
            if local_folder(name) is None:
                source = reach_hub(name, "config.json", "model.safetensors")
            tokenizer: Any = AutoTokenizer.from_pretrained(source)
            model, info = AutoModelForMaskedLM.from_pretrained(  # never a pickle
                source, use_safetensors=True, output_loading_info=True
            )
            if lacking := sorted(info["missing_keys"]):
                raise ValueError(f"its file lacks {len(lacking)} weights, such as {lacking[0]}")
            if tokenizer.mask_token is None:
                raise ValueError("its tokenizer has no mask token")
            # With a space before, as in the sentence: to some tokenizers that is another word.
            pieces = [tokenizer(f" {v}", add_special_tokens=False).input_ids for v in VIEWS]
            for view, ids in zip(VIEWS, pieces, strict=True):
                if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
                    raise ValueError(f"it has no single token for {view!r}")
        # Hub, network, safetensors and shape errors share no base class but this one.
        except Exception as error:
            raise TeacherError(
                f"teacher.views.language_model: cannot use {name!r}: {reason(error)}. It must be a "
                "masked language model with safetensors weights, as google-bert/bert-base-uncased"
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
