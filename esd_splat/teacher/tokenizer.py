"""CLIP tokenizers for small vocabularies."""

import json
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

END = "</w>"
"""The suffix by which CLIP marks the end of a word."""


def make_tokenizer(vocabulary: tuple[str, ...], length: int) -> CLIPTokenizer:
    """Return a CLIP tokenizer for which each word of ``vocabulary`` is one token.

    Other words are split into bytes, so no text is refused.

    Args:
        vocabulary: the words.
        length: length of every tokenized text, including its start and end tokens.
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
    """Return byte-pair merges that make each word one token.

    The trainer of the tokenizers library breaks ties differently in each process, so the same word
    would get a different token in each.
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
