"""Checking settings against a schema and building them, with every problem in one error."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml as pyyaml

from esd_splat.errors import ConfigError, Problem, one_line, quoted, reason
from esd_splat.settings.source import NAME, SHOWN, Tree, flat, parsed, read_overrides, read_yaml
from esd_splat.settings.values import WrongValueError, got, leaf
from esd_splat.settings.words import Node, did_you_mean, is_text, unknown_key, variants

T = TypeVar("T")
STAND_INS = {"string": "a", "integer": 1, "number": 1.0, "boolean": False}
"""Values for missing required keys, so that the others can still be checked."""
REFERENCES = re.compile(r"(?:[^$]|\$\{[\w.]+\})*")
"""Matches text in which every ``$`` belongs to a reference. A prompt may hold "a ${ sign"."""
REFERENCE = re.compile(r"\$\{([\w.]+)\}")
MOST_REFERENCES = 50
"""The most references that one value may lead to. They can double from each key to the next."""
MOST_SUGGESTED = 20
"""The most unknown keys for which a known one is sought, which takes 10 ms each."""
_NOTHING = object()
"""Stands for a value that cannot be used, as ``None`` may be a valid value."""


def load(
    section: type[T],
    yaml: str,
    overrides: Sequence[str] = (),
    source: str = "config",
    problems: Sequence[Problem] = (),
) -> T:
    """Parse ``yaml``, apply ``key=value`` overrides and build a validated ``section``.

    Text is kept exactly as it was written. In any other value, ``${other.key}`` stands for the
    value that was given for that key. If an override chooses a different plug-in than the file,
    the keys in the file that only the file's plug-in has are ignored.

    Args:
        source: the name of the settings in messages, such as the name of the file.
        problems: problems that were found earlier, to be reported together with the others.

    Raises:
        ConfigError: lists every unknown key, wrong type, missing value and value out of range.
    """
    from esd_splat.settings.schema import json_schema

    reader = Reader(json_schema(section), yaml, overrides, problems)
    built = reader.build(section)
    if reader.problems:
        raise ConfigError(source, list(dict.fromkeys(reader.problems)))
    return built


def to_yaml(config: Any, comment: str = "") -> str:
    """Return all values of ``config``, including defaults, as YAML that ``load`` can read back.

    Args:
        comment: written at the top, each line after a ``#``.
    """
    from pydantic import TypeAdapter

    values = TypeAdapter(type(config)).dump_python(config, mode="json")
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    text = pyyaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return "\n".join([*lines, text])


class Reader:
    """Converts settings to the types of a schema, and collects every problem on the way.

    It needs only the schema, none of the code that the schema describes.
    """

    def __init__(
        self, schema: Node, yaml: str, overrides: Sequence[str], problems: Sequence[Problem]
    ) -> None:
        self.schema, self.problems = schema, list(problems)
        self.unknown = False
        """Whether some key is not in the schema."""
        self._strange = 0  # the number of such keys
        self._chosen: dict[str, str] = {}  # path of a plug-in section -> the plug-in in use
        self._spelled: dict[str, str] = {}  # path of a key -> the name it was given by
        file = read_yaml(yaml, self.problems)
        typed = read_overrides(overrides, self.problems)
        self._given = dict(flat(file or {})) | dict(flat(typed))
        self._typed = False
        of_file = self._section(schema, file or {}, "", {})
        self._typed = True
        self.values = _merged(schema, of_file, self._section(schema, typed, "", of_file))
        if file is not None and not problems:
            missing = [key for key in schema.get("required", ()) if key not in self._spelled]
            for key in missing:
                self._report(key, f"is required; give it as {key}=...")

    def build(self, section: type[T]) -> Any:
        """Build the ``section``, and add to ``problems`` what its own checks refuse.

        Pydantic does not run the checks across fields when another check has failed. The values
        that were refused are therefore removed, and the rest is tried again.
        """
        from pydantic import TypeAdapter, ValidationError

        values = _complete(self.schema, self.values)
        while True:
            known = set(self.problems)
            try:
                return TypeAdapter(section).validate_python(values)
            except ValidationError as error:
                blamed = [key for fault in error.errors() for key in self._fault(fault)]
            if known == set(self.problems):
                return None  # a stand-in was refused like the value before it
            sections = [key.rpartition(".")[0] for key in blamed]
            if not any([_drop(values, key) for key in blamed]) and not any(
                [_drop(values, section) for section in sections]
            ):
                return None
            values = _complete(self.schema, values)

    def _fault(self, fault: Mapping[str, Any]) -> list[str]:
        """Report one error of pydantic, and return the keys that it blames."""
        node, path = self.schema, ""
        for part in fault["loc"]:
            table = variants(node)
            node = table[part] if part in table else node.get("properties", {}).get(part, {})
            path += "" if part in table else f"{part}."
        blamed = []
        for line in str(fault.get("ctx", {}).get("error", fault["msg"])).splitlines():
            name, separator, message = line.partition(": ")
            known = bool(separator) and name.split(".")[0] in node.get("properties", {})
            key = f"{path}{name}" if known else path.rstrip(".")
            spelled = self._spelled.get(key, key)
            blamed.append(key)
            self._report(spelled or "config", message if known else line)
        return blamed

    def _section(self, node: Node, given: Tree, path: str, before: Tree) -> Tree:
        """Convert a section. If it was typed, ``before`` holds the values from the file."""
        values: Tree = {}
        for key, value in given.items():
            here, below = f"{path}{key}", node["properties"].get(key)
            if below is None:
                self._unknown(here, value)
                continue
            real = below.get("x-gives", key)
            if real in values:
                other = self._spelled[f"{path}{real}"]
                self._report(here, f"says the same as {other}; give only one of them")
                continue
            self._spelled[f"{path}{real}"] = here
            try:
                values[real] = self._value(below, value, here, before.get(real))
            except WrongValueError as error:
                self._report(here, str(error))
        return {key: value for key, value in values.items() if value is not _NOTHING}

    def _value(self, node: Node, given: Any, path: str, before: Any) -> Any:
        if variants(node):
            return self._plugin(node, parsed(given), path, before or {})
        if "properties" in node:
            if isinstance(given := parsed(given), dict):
                return self._section(node, given, f"{path}.", before or {})
            raise WrongValueError(f"expected a section of keys, got {given or 'nothing'}")
        if isinstance(given, dict) and self._typed:
            for key, _ in flat(given, f"{path}."):
                self._report(key, f"unknown key; {path} has no keys below it")
            return _NOTHING
        if isinstance(given, str) and "${" in given and not is_text(node):
            given = self._resolved(given)
        value = leaf(node, given)
        return 1 - value if "x-complement-of" in node else value

    def _plugin(self, node: Node, given: Any, path: str, before: Tree) -> Any:
        table = variants(node)
        short = not isinstance(given, dict)
        given = {NAME: given} if short else given
        name = given.get(NAME, before.get(NAME, node.get("default")))
        own = {key: value for key, value in given.items() if key != NAME}
        if isinstance(name, str) and name in table:
            self._chosen[path] = name
            return {NAME: name} | self._section(table[name], own, f"{path}.", before)
        shown = quoted(name, SHOWN) if isinstance(name, str) else got(name)
        expected = f"expected one of {', '.join(sorted(table))}, got {shown}"
        message = f"{expected}{did_you_mean(str(name), table)}"
        self._report(path if short else f"{path}.{NAME}", message)
        for key in own.keys() - {key for one in table.values() for key in one["properties"]}:
            self._unknown(f"{path}.{key}", own[key])
        return _NOTHING

    def _resolved(self, given: str) -> Any:
        """Replace the references in ``given`` by the values that were given for those keys."""
        from omegaconf import OmegaConf  # takes 0.2 s, and few configs need it
        from omegaconf.errors import OmegaConfBaseException

        shown = one_line(given)
        if not REFERENCES.fullmatch(given):
            raise WrongValueError(f"{shown} is not a reference to another key, such as ${{steps}}")
        try:
            tree = OmegaConf.from_dotlist([])
            for key, value in self._referred(given).items():
                OmegaConf.update(tree, key, value)
            tree["value to resolve"] = given
            value = tree["value to resolve"]
        except OmegaConfBaseException as error:
            raise WrongValueError(f"{shown} cannot be resolved: {reason(error)}") from error
        return OmegaConf.to_container(value) if OmegaConf.is_config(value) else str(value)

    def _referred(self, given: str) -> dict[str, Any]:
        """Return the values that ``given`` refers to, directly or through others."""
        found: dict[str, Any] = {}
        texts: list[tuple[str, frozenset[str]]] = [(given, frozenset())]
        count = 0
        while texts:
            text, above = texts.pop()
            for name in set(REFERENCE.findall(text)) - above:  # OmegaConf refuses circles
                count += text.count(f"${{{name}}}")
                if count > MOST_REFERENCES:
                    raise WrongValueError(
                        f"{one_line(given)} cannot be resolved: it leads to more than "
                        f"{MOST_REFERENCES} references"
                    )
                for key, value in self._given.items():
                    if f"{key}.".startswith(f"{name}.") and REFERENCES.fullmatch(str(value)):
                        found[key] = value
                        texts.append((str(value), above | {name}))
        return found

    def _unknown(self, path: str, given: Any) -> None:
        """Report an unknown key in the way it was typed or written in the file."""
        self.unknown = True
        below = [key for key, _ in flat({path: given})] if self._typed else [path]
        for key in below:
            self._strange += 1
            near = self._strange <= MOST_SUGGESTED
            message = unknown_key(key, self.schema, self._chosen) if near else "unknown key"
            self._report(key, message)

    def _report(self, key: str, message: str) -> None:
        self.problems.append(Problem(key, message))


def _merged(node: Node, old: Any, new: Any) -> Any:
    """Put ``new`` values over ``old`` ones. Keys that a new plug-in does not have are dropped."""
    if table := variants(node):
        node = table[new[NAME]]
        old = {key: value for key, value in old.items() if key in node["properties"]}
    if "properties" not in node:
        return new
    below = node["properties"]
    both = {key: _merged(below[key], old[key], new[key]) for key in old.keys() & new.keys()}
    return old | new | both


def _complete(node: Node, values: Tree) -> Tree:
    """Add ``STAND_INS`` for missing required keys to ``values``."""
    missing = {key: STAND_INS[node["properties"][key]["type"]] for key in node.get("required", ())}
    return missing | values


def _drop(values: Tree, key: str) -> bool:
    """Remove a dotted key from ``values``, and return whether it was there."""
    *above, last = key.split(".")
    for name in above:
        values = values.get(name, {})
    return values.pop(last, None) is not None
