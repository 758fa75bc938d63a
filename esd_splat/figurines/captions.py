"""Captions of figurines, the vocabulary of the embedded teacher, and the parsing of prompts."""

import re

from esd_splat.figurines.shapes import COLOURS, KINDS

VIEWS = ("front", "side", "back")
ARTICLES = ("a", "an", "the")
VOCABULARY: tuple[str, ...] = (*ARTICLES, *COLOURS, *KINDS, *VIEWS, "view", ",")
"""Every word that a caption can have. The embedded teacher was trained on no others."""

HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("owl", "purple"),
        ("cat", "green"),
        ("robot", "pink"),
        ("rabbit", "red"),
        ("duck", "blue"),
        ("car", "orange"),
    }
)
"""(kind, colour) pairs left out of the training, to test that the teacher composes."""


def caption(kind: str, colour: str, view: str | None = None) -> str:
    """Return the caption of a figurine, with a view word if one is given.

    >>> caption("owl", "orange", "back")
    'an orange owl, back view'
    """
    article = "an" if colour[0] in "aeiou" else "a"
    return f"{article} {colour} {kind}" + (f", {view} view" if view else "")


def parse(prompt: str) -> tuple[str, str] | None:
    """Return the (kind, colour) in a prompt, or ``None`` if it does not name exactly one of each.

    >>> parse("a red owl"), parse("a corgi")
    (('owl', 'red'), None)
    """
    words = re.findall(r"[a-z]+", prompt.lower())
    kinds = [word for word in words if word in KINDS]
    colours = [word for word in words if word in COLOURS]
    return (kinds[0], colours[0]) if len(kinds) == len(colours) == 1 else None
