"""What was given: a tree of values from YAML text and the command line, text kept as written.

A prompt must come through as it was typed, whatever YAML would make of it (``2001``, ``no``,
``a cat, red: big``), and only the schema knows which keys are text. So a value is kept both as
text and as parsed, and the one that the schema asks for is used.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import yaml

from esd_splat.errors import ConfigError, Problem
from esd_splat.structured.schema import NAME


class Tree(dict[str, Any]):
    """A mapping as it was written: each value is a ``Given`` or a ``Tree``."""

    text: str = ""
    """As it stood on the command line; empty for one of a file."""


@dataclasses.dataclass(frozen=True)
class Given:
    """One value as it was written, and as YAML understands it."""

    text: str
    value: Any
    """``None``, bool, int, float, str, or a list of ``Given`` and ``Tree``."""
    typed: bool = False
    """Whether it stood on the command line."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars: ``1e-3`` is a number; ``no``, ``1:30`` and dates are text."""


MAX_DIGITS = 100
"""A longer number is text: Python refuses to read it, and no key wants it."""

_TAG = "tag:yaml.org,2002:"
_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in [
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9][0-9_]*", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.?(?:inf|Inf|INF)|\.?(?:nan|NaN|NAN)",
        list("-+0123456789.iInN"),
    ),
]:
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(rf"(?:{_pattern})\Z"), _first)


def read_yaml(text: str, problems: list[Problem]) -> Tree | None:
    """The tree of a YAML file; ``None`` after adding to ``problems`` why there is none."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        given = Tree() if node is None else _given(node, text, "", problems)
    except yaml.MarkedYAMLError as error:
        number = error.problem_mark.line + 1 if error.problem_mark else 1
        line = "".join(text.splitlines()[number - 1 : number])
        hint = "; put quotes around text that holds ': '" if line.count(": ") > 1 else ""
        problems.append(Problem(f"line {number}", f"is not YAML: {error.problem}{hint}"))
        return None
    except RecursionError:
        problems.append(Problem("file", "an alias (*name) stands inside what it refers to"))
        return None
    except yaml.YAMLError as error:
        problems.append(Problem("file", f"is not YAML: {str(error).splitlines()[0]}"))
        return None
    if isinstance(given, Tree):
        return given
    if given.value is None:
        return Tree()
    problems.append(Problem("file", f"expected lines of key: value, got {shorten(given.text)}"))
    return None


def read_flat(text: str, source: str) -> dict[str, Any]:
    """The values of a YAML file by dotted key, whatever schema and version it was written for.

    Args:
        source: the file's name, for messages.

    Raises:
        ConfigError: it is no mapping.

    Example:
        >>> read_flat("loss: {name: esd, entropy_weight: 1.0}\\nsteps: 500", "x.yaml")
        {'loss.name': 'esd', 'loss.entropy_weight': 1.0, 'steps': 500}
    """
    problems: list[Problem] = []
    tree = read_yaml(text, problems)
    if tree is None:
        raise ConfigError(source, problems)
    return dict(_flat(tree, ""))


def apply_overrides(
    tree: Tree, overrides: Sequence[str], problems: list[Problem]
) -> tuple[Tree, list[str]]:
    """``tree`` with ``key=value`` overrides put in, and the keys as they were typed.

    They win over the values of the file; a key typed twice is a problem.
    """
    merged = _copy(tree)
    keys: list[str] = []
    for override in overrides:
        key, separator, text = override.partition("=")
        key = key.strip()
        if override.startswith("-"):
            message = "unknown option; settings are given as key=value, without dashes"
            problems.append(Problem(override, message))
        elif not separator or not key:
            message = "expected key=value; put quotes around a value that holds spaces"
            problems.append(Problem(override or "''", message))
        else:
            keys.append(key)
            _put(merged, key, _typed(text), problems, key)
    return merged, keys


def plain(node: Any) -> Any:
    """The parsed values of a tree, without their text."""
    if isinstance(node, Given):
        return plain(node.value)
    if isinstance(node, Tree):
        return {key: plain(value) for key, value in node.items()}
    return [plain(value) for value in node] if isinstance(node, list) else node


def shorten(text: str, limit: int = 60) -> str:
    """``text`` in quotes, on one line and not too long for a message."""
    line = " ".join(text.split())
    return repr(line if len(line) <= limit else f"{line[: limit - 3]}...")


def _put(tree: Tree, key: str, new: Given | Tree, problems: list[Problem], spelled: str) -> None:
    """Set one dotted key of ``tree``, in place; one already set from the same place is a problem.

    Args:
        spelled: the whole key, for messages.
    """
    *above, last = key.split(".")
    for name in above:
        tree = _section(tree, name)
    old = tree.get(last)
    if isinstance(new, Tree):
        section = _section(tree, last)
        section.text = new.text
        for name, below in new.items():
            _put(section, name, below, problems, f"{spelled}.{name}")
    elif isinstance(old, Tree):
        _put(old, NAME, new, problems, spelled)  # ``loss=sds``: the plug-in of the section
    else:
        if isinstance(old, Given) and old.typed == new.typed:
            both = f"{shorten(old.text)} and {shorten(new.text)}"
            problems.append(Problem(spelled, f"is given twice: {both}"))
        tree[last] = new


def _flat(tree: Tree, path: str) -> Iterator[tuple[str, Any]]:
    for key, node in tree.items():
        if isinstance(node, Tree):
            yield from _flat(node, f"{path}{key}.")
        else:
            yield f"{path}{key}", plain(node)


def _section(tree: Tree, name: str) -> Tree:
    """The section ``name`` of ``tree``, made if need be: ``loss: sds`` is ``loss: {name: sds}``."""
    child = tree.get(name)
    if not isinstance(child, Tree):
        tree[name] = child = Tree({} if child is None else {NAME: child})
    return child


def _typed(text: str) -> Given | Tree:
    """A value of the command line; what is not YAML is text."""
    problems: list[Problem] = []
    try:
        node = yaml.compose(text, Loader=_Loader)
        given = Given("", None) if node is None else _given(node, text, "", problems, typed=True)
    except (yaml.YAMLError, RecursionError):
        given = Given(text, text)
    if isinstance(given, Tree):
        given.text = text
        return given
    return Given(text, given.value, typed=True)


def _given(
    node: yaml.Node, source: str, path: str, problems: list[Problem], typed: bool = False
) -> Given | Tree:
    """``node`` as a value; a key that a mapping has twice goes to ``problems``."""
    if isinstance(node, yaml.ScalarNode):
        return Given(node.value, _scalar(node), typed)
    if isinstance(node, yaml.SequenceNode):
        text = source[node.start_mark.index : node.end_mark.index]
        return Given(text, [_given(x, source, path, problems, typed) for x in node.value], typed)
    tree = Tree()
    for key_node, value_node in node.value:
        key = str(key_node.value)
        if key in tree:
            message = f"is given twice, again on line {key_node.start_mark.line + 1}"
            problems.append(Problem(f"{path}{key}", message))
        else:
            below = _given(value_node, source, f"{path}{key}.", problems, typed)
            _put(tree, key, below, problems, f"{path}{key}")
    return tree


def _scalar(node: yaml.ScalarNode) -> Any:
    """The value of ``node``; its text, where a tag (``!!int owl``) claims what it is not."""
    text = node.value.replace("_", "").lower()
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool" if text in ("true", "false"):
            return text == "true"
        case "int" if len(text) <= MAX_DIGITS:
            with suppress(ValueError):
                return int(text)
        case "float":
            with suppress(ValueError):
                return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    return node.value


def _copy(tree: Tree) -> Tree:
    return Tree({key: _copy(v) if isinstance(v, Tree) else v for key, v in tree.items()})
