"""Reading settings from YAML and from the command line, as nested dictionaries of text.

A prompt must be kept as it was typed, even if YAML would read it differently (``2001``, ``no``,
``a cat, red: big``), and only the schema knows which keys are text. Every value therefore stays
text until the schema says what type it has.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from typing_extensions import override
from yaml.composer import Composer
from yaml.parser import Parser

from esd_splat.errors import ConfigError, Problem, one_line, quoted, reason

NAME = "name"
"""The key in a plug-in's section that selects the plug-in."""
Tree = dict[str, Any]
"""Each value is text, a list or a ``Tree``."""


MOST_BYTES = 256 * 1024
"""The largest size of a config. The shipped ones take 2 kB, and one with all settings 6 kB."""
MOST_VALUES = 10_000
"""The most values in a YAML text, counting what an alias stands for each time it is used."""
SHOWN = 60
"""The most characters that messages show of a value."""
DEEPEST = 32
"""The most levels of keys and lists."""
LONGEST_NUMBER = 100
"""The most characters of a value that is read as anything but text."""
SURROGATE = re.compile(r"[\ud800-\udfff]")
"""Matches half of a pair of UTF-16, which cannot be written to a file in UTF-8."""


class _Bounds(Parser, Composer):
    """The part of a loader that refuses a text that would fill the memory."""

    def __init__(self, text: str) -> None:
        super().__init__(text)  # pyright: ignore[reportCallIssue] - of the loader, which is next
        self._values = self._depth = 0
        self._sizes: dict[yaml.Node, int] = {}
        """How many values each node holds, itself included."""

    @override
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event, before = self.peek_event(), self._values
        self._depth += 1
        if self._depth > DEEPEST:
            raise _refused(event, f"it is nested more than {DEEPEST} levels deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        # An alias that stands for what it is in is refused later, by PyYAML.
        self._values += (
            self._sizes.get(node, 1) if node and isinstance(event, yaml.AliasEvent) else 1
        )
        if self._values > MOST_VALUES:
            raise _refused(event, f"it holds more than {MOST_VALUES} values")
        if isinstance(node, yaml.ScalarNode):
            if SURROGATE.search(node.value):
                raise _refused(event, f"{quoted(node.value)} is not text in UTF-8")
            if len(node.value) > LONGEST_NUMBER:
                node.tag = yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG
        if node is not None:
            self._sizes[node] = self._values - before
        return node


class _Loader(_Bounds, yaml.BaseLoader):
    """Keeps every scalar as text, and refuses a mapping that has a key twice."""

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key is no text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{quoted(key.value)} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _TypedLoader(_Bounds, yaml.SafeLoader):
    """Reads scalars as YAML 1.1."""


def _refused(event: yaml.Event, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _parse(text: str, loader: type[_Loader | _TypedLoader] = _Loader) -> Any:
    """Return what a text in YAML holds.

    Raises:
        yaml.YAMLError: the text is not YAML, or larger than any config.
    """
    if len(text) > MOST_BYTES:
        raise yaml.YAMLError(f"it has more than {MOST_BYTES // 1024} kB")
    try:
        return yaml.load(text, loader)
    # By PyYAML, for characters, dates and numbers that do not exist.
    except (ValueError, OverflowError, TypeError, LookupError, RecursionError) as error:
        raise yaml.YAMLError(reason(error)) from error


def read_yaml(text: str, problems: list[Problem]) -> Tree | None:
    """Parse a YAML file. If this fails, add the reason to ``problems`` and return ``None``."""
    try:
        found = _parse(text)
    except yaml.YAMLError as error:
        problems.append(_problem(text, error))
        return None
    if not isinstance(found or {}, dict):
        problems.append(_no_mapping(found if isinstance(found, str) else text))
        return None
    tree: Tree = {}
    for key, value in (found or {}).items():
        put(tree, key, value, problems)
    return tree


def _problem(text: str, error: yaml.YAMLError) -> Problem:
    """Return why ``text`` cannot be parsed, and in which line."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem("file", f"is not YAML: {reason(error)}")
    number = error.problem_mark.line + 1 if error.problem_mark else 1
    line = "".join(text.splitlines()[number - 1 : number])
    hint = "; put quotes around text that holds ': '" if line.count(": ") > 1 else ""
    return Problem(f"line {number}", f"is not YAML: {one_line(error.problem)}{hint}")


def _no_mapping(found: str) -> Problem:
    return Problem("file", f"expected lines of key: value, got {quoted(found, SHOWN)}")


def read_overrides(overrides: Sequence[str], problems: list[Problem]) -> Tree:
    """Parse ``key=value`` overrides. A key that is given twice is a problem."""
    tree: Tree = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if text.startswith("-"):
            message = "unknown option; settings are given as key=value, without dashes"
            problems.append(Problem(text, message))
        elif not separator or not key.strip():
            message = "expected key=value; put quotes around a value that holds spaces"
            problems.append(Problem(text or "''", message))
        else:
            put(tree, key.strip(), value, problems)
    return tree


def put(tree: Tree, key: str, value: Any, problems: list[Problem], above: str = "") -> None:
    """Set a dotted key in ``tree``, in place. ``above`` is the path to ``tree``, for messages."""
    if (above + key).count(".") >= DEEPEST:
        problems.append(Problem(f"{above}{key}", f"is nested more than {DEEPEST} levels deep"))
        return
    first, _, rest = key.partition(".")
    if isinstance(value, Mapping) and not rest:
        for name, below in value.items():
            put(tree, f"{first}.{name}", below, problems, above)
        if not value:
            tree.setdefault(first, {})
        return
    old = tree.get(first)
    if rest and not isinstance(old, dict):
        # ``loss: sds`` is short for ``loss: {name: sds}``.
        tree[first] = old = {} if old is None else {NAME: old}
    if isinstance(old, dict):
        put(old, rest or NAME, value, problems, f"{above}{first}.")
    elif old is not None:
        both = f"{quoted(old, SHOWN)} and {quoted(value, SHOWN)}"
        problems.append(Problem(f"{above}{first}", f"is given twice: {both}"))
    else:
        tree[first] = value


def parsed(text: Any) -> Any:
    """Parse text from the command line that spells a list or mapping. Keep any other text."""
    if isinstance(text, str) and text.strip().startswith(("[", "{")):
        try:
            return _parse(text)
        except yaml.YAMLError:
            return text
    return text


def flat(tree: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value in a tree with its dotted key."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def read_flat(text: str, source: str) -> dict[str, Any]:
    """Return the values in a YAML file by dotted key, for any schema and version.

    Args:
        source: the name of the file, for messages.

    Raises:
        ConfigError: the file does not hold a mapping.

    Example:
        >>> read_flat("loss: {name: esd, entropy_weight: 1.0}\\nsteps: 500", "x.yaml")
        {'loss.name': 'esd', 'loss.entropy_weight': 1.0, 'steps': 500}
    """
    problems: list[Problem] = []
    if read_yaml(text, problems) is None:
        raise ConfigError(source, problems)
    try:
        found = _parse(text, _TypedLoader)
    except yaml.YAMLError as error:
        raise ConfigError(source, [_problem(text, error)]) from error
    if not isinstance(found or {}, dict):  # of a type that the text names, such as !!set
        raise ConfigError(source, [_no_mapping(text)])
    return dict(flat(found or {}))
