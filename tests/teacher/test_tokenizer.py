"""Tokenizers for which each known word is one token."""

from esd_splat.figurines import VOCABULARY
from esd_splat.teacher.tokenizer import _merges, make_tokenizer


def test_every_word_is_one_token() -> None:
    tokenizer = make_tokenizer(VOCABULARY, 12)
    for word in VOCABULARY:
        assert len(tokenizer.tokenize(word)) == 1
    assert len(tokenizer("red owl", padding="max_length").input_ids) == 12
    assert len(tokenizer.tokenize("corgi")) > 1, "unknown words fall back to letters"


def test_merges_by_hand() -> None:
    """The most common pair comes first, ties are alphabetical. The order numbers the tokens."""
    assert _merges(("owl", "own", "a")) == [("o", "w"), ("ow", "l</w>"), ("ow", "n</w>")]
