"""Tokenizers for small vocabularies, in CLIP's own class."""

import json
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

END = "</w>"
"""CLIP's mark of the end of a word."""


def make_tokenizer(vocabulary: tuple[str, ...], length: int) -> CLIPTokenizer:
    """A CLIP tokenizer to which each word of ``vocabulary`` is one token; it knows all bytes.

    Args:
        length: of every tokenized text, its start and end included.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _merges(vocabulary)
    pieces = [*letters, *(letter + END for letter in letters), *map("".join, merges)]
    words = {word: i for i, word in enumerate(["<|startoftext|>", "<|endoftext|>", *pieces])}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(words, ensure_ascii=False))
        lines = ["#version: 0.2", *map(" ".join, merges)]
        (Path(folder) / "merges.txt").write_text("\n".join(lines) + "\n")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=length)


def _merges(vocabulary: tuple[str, ...]) -> list[tuple[str, str]]:
    """Byte-pair merges that make each word one token.

    The library's own trainer breaks ties differently from process to process, which would give
    the same word another token in every one.
    """
    split = [[*word[:-1], word[-1] + END] for word in vocabulary]
    merges: list[tuple[str, str]] = []
    while any(len(pieces) > 1 for pieces in split):
        pairs = Counter(pair for pieces in split for pair in pairwise(pieces))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for pieces in split:
            for i in range(len(pieces) - 2, -1, -1):
                if (pieces[i], pieces[i + 1]) == best:
                    pieces[i : i + 2] = ["".join(best)]
    return merges
