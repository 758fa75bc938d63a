"""Reading settings from YAML and from the command line, as nested dictionaries of text.

A prompt must be kept as it was typed, even if YAML would read it differently (``2001``, ``no``,
``a cat, red: big``), and only the schema knows which keys are text. Every value therefore stays
text until the schema says what type it has.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from typing_extensions import override

from esd_splat.errors import ConfigError, Problem

NAME = "name"
"""The key in a plug-in's section that selects the plug-in."""
Tree = dict[str, Any]
"""Each value is text, a list or a ``Tree``."""


class _Loader(yaml.BaseLoader):
    """Keeps every scalar as text, and refuses a mapping that has a key twice."""

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(text: str, problems: list[Problem]) -> Tree | None:
    """Parse a YAML file. If this fails, add the reason to ``problems`` and return ``None``."""
    try:
        found = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        number = error.problem_mark.line + 1 if error.problem_mark else 1
        line = "".join(text.splitlines()[number - 1 : number])
        hint = "; put quotes around text that holds ': '" if line.count(": ") > 1 else ""
        problems.append(Problem(f"line {number}", f"is not YAML: {error.problem}{hint}"))
        return None
    except yaml.YAMLError as error:
        problems.append(Problem("file", f"is not YAML: {str(error).splitlines()[0]}"))
        return None
    if not isinstance(found or {}, dict):
        shown = shorten(found if isinstance(found, str) else text)
        problems.append(Problem("file", f"expected lines of key: value, got {shown}"))
        return None
    tree: Tree = {}
    for key, value in (found or {}).items():
        put(tree, key, value, problems)
    return tree


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
        both = f"{shorten(old)} and {shorten(value)}"
        problems.append(Problem(f"{above}{first}", f"is given twice: {both}"))
    else:
        tree[first] = value


def parsed(text: Any) -> Any:
    """Parse text from the command line that spells a list or mapping. Keep any other text."""
    if isinstance(text, str) and text.strip().startswith(("[", "{")):
        try:
            return yaml.load(text, _Loader)
        except yaml.YAMLError:
            return text
    return text


def flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
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
    return dict(flat(yaml.safe_load(text) or {}))


def shorten(value: Any, limit: int = 60) -> str:
    """Return a value in quotes, on one line, and cut to fit into a message."""
    line = " ".join(str(value).split())
    return repr(line if len(line) <= limit else f"{line[: limit - 3]}...")
