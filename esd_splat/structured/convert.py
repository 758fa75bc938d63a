"""One value to the type that a schema asks of it, or a message that says what was expected."""

import sys
import types
import typing
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from esd_splat.structured.source import Given, Tree, shorten

_UNIONS = (typing.Union, types.UnionType)
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    type(None): "null",
}


class WrongTypeError(Exception):
    """A value is not of the wanted type; the message says what was expected."""


def convert(node: Given | Tree, wanted: Any) -> Any:
    """The value of ``node`` as a ``wanted``: text as it was written, whole numbers as numbers too.

    Raises:
        WrongTypeError: it is of another type. A bool is no number, and NaN and infinity are none
            either: no setting means anything there.
    """
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in _UNIONS:
        return _one_of_types(node, arguments)
    if origin is Literal:
        return _one_of_values(node, arguments)
    value = node.value if isinstance(node, Given) else node
    if origin in (tuple, list) and isinstance(value, list):
        return _items(node, value, origin, arguments)
    if wanted in (str, Path) and _may_be_text(node):
        return wanted(node.text)
    if wanted is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:
            return float(value)
        raise WrongTypeError(f"expected a finite number, got {node.text}")
    if wanted in (int, bool, type(None)) and type(value) is wanted:
        return value
    hint = ""
    if wanted is int and isinstance(value, float) and value.is_integer():
        hint = f"; write {int(value)}"
    raise WrongTypeError(f"expected {describe(wanted)}, got {_got(node)}{hint}")


def describe(wanted: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is Literal:
        return f"one of {', '.join(str(a) for a in arguments)}"
    if origin in _UNIONS:
        return " or ".join(describe(a) for a in arguments)
    if origin is list or (origin is tuple and Ellipsis in arguments):
        return f"a list as [{_word(arguments[0])}, ...]"
    if origin is tuple:
        return f"[{', '.join(_word(a) for a in arguments)}]"
    return _WORDS.get(wanted, getattr(wanted, "__name__", str(wanted)))


def did_you_mean(text: str, allowed: Iterable[str]) -> str:
    """``"; did you mean 'esd'?"``, or nothing when no name is near."""
    close = get_close_matches(text, list(allowed), n=1, cutoff=0.7)
    return f"; did you mean {close[0]!r}?" if close else ""


def is_text(wanted: Any) -> bool:
    """Whether a value for ``wanted`` is taken as it was written."""
    return bool({str, Path} & {wanted, *typing.get_args(wanted)})


def _may_be_text(node: Given | Tree) -> bool:
    """Whatever was typed, and any single value of a file but nothing (``null``)."""
    if isinstance(node, Tree):
        return bool(node.text)
    return node.typed or not (node.value is None or isinstance(node.value, list))


def _one_of_types(node: Given | Tree, members: tuple[Any, ...]) -> Any:
    if type(None) in members and isinstance(node, Given) and node.value is None:
        return None  # ``out=null`` and ``out=``, also where ``out`` may be text
    others = [m for m in members if m is not type(None)]
    for member in others:
        try:
            return convert(node, member)
        except WrongTypeError:
            if len(others) == 1:
                raise
    raise WrongTypeError(f"expected {' or '.join(map(describe, members))}, got {_got(node)}")


def _one_of_values(node: Given | Tree, allowed: tuple[Any, ...]) -> Any:
    for choice in allowed:
        if isinstance(node, Tree) or isinstance(node.value, list):
            continue
        if isinstance(choice, str) and node.text == choice:
            return choice
        if type(node.value) is type(choice) and node.value == choice:
            return choice
    close = did_you_mean(node.text, map(str, allowed))
    raise WrongTypeError(f"expected {describe(Literal[allowed])}, got {_got(node)}{close}")


def _items(
    node: Given | Tree, values: list[Given | Tree], kind: type, arguments: tuple[Any, ...]
) -> Any:
    if kind is list or Ellipsis in arguments:
        arguments = (arguments[0],) * len(values)
    elif len(values) != len(arguments):
        wanted = describe(tuple[arguments])
        raise WrongTypeError(f"expected {len(arguments)} values as {wanted}, got {node.text}")
    return kind(convert(value, wanted) for value, wanted in zip(values, arguments, strict=True))


def _got(node: Given | Tree) -> str:
    if isinstance(node, Tree):
        return node.text or "a section of keys"
    if isinstance(node.value, str):
        return shorten(node.text)
    return node.text or "nothing"


def _word(wanted: Any) -> str:
    return describe(wanted).removeprefix("a ")
