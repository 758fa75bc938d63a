"""A tree of given values to a dataclass, with every problem in one error."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from esd_splat.errors import ConfigError, Problem
from esd_splat.structured.construct import construct
from esd_splat.structured.convert import WrongTypeError, convert, did_you_mean, is_text
from esd_splat.structured.interpolate import interpolated, refers
from esd_splat.structured.schema import NAME, Field, fields_of, keys_of, names_of
from esd_splat.structured.source import Given, Tree, apply_overrides, read_yaml, shorten
from esd_splat.structured.suggest import unknown_key

T = TypeVar("T")

_NOTHING = object()
"""In place of a value that could not be read; ``None`` may be one that was."""


def load(
    schema: type[T],
    yaml: str,
    overrides: Sequence[str] = (),
    source: str = "config",
    problems: Sequence[Problem] = (),
) -> T:
    """Parse ``yaml``, apply ``key=value`` overrides and build a validated ``schema``.

    Text comes through as written; ``${other.key}`` in any other value stands for the value given
    to that key. Where an override chooses another plug-in than the file does, those of the file's
    keys that only its own plug-in has are left out.

    Args:
        source: what to call the whole in messages, as the file's name.
        problems: found before, to be reported with the others.

    Raises:
        ConfigError: naming every unknown key, wrong type, missing value and range violation.
    """
    found = list(problems)
    file = read_yaml(yaml, found)
    unread = bool(problems) or file is None
    merged, typed = apply_overrides(file or Tree(), overrides, found)
    builder = _Builder(schema, file or Tree(), merged, typed, unread, found)
    built = builder.section(schema, merged, "")
    if found:
        raise ConfigError(source, list(dict.fromkeys(found)))
    return built


@dataclasses.dataclass
class _Builder:
    schema: type
    file: Tree
    """What the file alone says."""
    merged: Tree
    """What the file and the command line say."""
    typed: Sequence[str]
    """Keys as they stood on the command line."""
    unread: bool
    """Whether the file could not be read, so that nothing can be called missing."""
    problems: list[Problem]
    chosen: dict[str, str] = dataclasses.field(default_factory=dict)
    """The path of each plug-in section seen so far -> the plug-in in use."""

    def section(self, schema: type, tree: Tree, path: str) -> Any:
        """The built section, or ``_NOTHING`` after reporting why it cannot be built.

        What cannot be read falls back to its default, so that the section's own checks still run.
        """
        before = len(self.problems)
        fields = fields_of(schema)
        values: dict[str, Any] = {}
        spelled: dict[str, str] = {}
        for key, node, field in self.known(schema, tree, path):
            spelled[field.name] = key
            value = self.value(field, node, f"{path}{key}")
            if value is not _NOTHING:
                values[field.name] = field.aliases[key](value) if key in field.aliases else value
        for field in fields.values():
            required = field.default is dataclasses.MISSING
            if required and field.name not in spelled and not self.unread:
                self.report(
                    f"{path}{field.name}", f"is required; give it as {path}{field.name}=..."
                )
        built, faults = construct(schema, fields, values)
        for name, message in faults:
            key = spelled.get(name, name)
            translated = f"{name} {message}" if key != name else message
            self.report(f"{path}{key}" if key else path.rstrip("."), translated)
        return built if len(self.problems) == before else _NOTHING

    def known(
        self, schema: type, tree: Tree, path: str
    ) -> Iterator[tuple[str, Given | Tree, Field]]:
        """Each known key of ``tree`` with its field; unknown and doubled keys are reported."""
        names = names_of(schema)
        chosen: dict[str, str] = {}
        for key, node in tree.items():
            if key not in names:
                self.unknown(f"{path}{key}")
                continue
            first = chosen.setdefault(names[key].name, key)
            if _is_typed(node) and not _is_typed(tree[first]):
                chosen[names[key].name] = key
            elif first != key and _is_typed(node) == _is_typed(tree[first]):
                self.report(f"{path}{key}", f"says again what {path}{first} says; give one of them")
        for name, key in chosen.items():
            yield key, tree[key], names[name]

    def value(self, field: Field, node: Given | Tree, path: str) -> Any:
        """What ``node`` says for ``field``, or ``_NOTHING`` after reporting why it says nothing."""
        if field.table is not None:
            return self.plugin(field, field.table, node, path)
        if field.section is not None:
            if isinstance(node, Tree):
                return self.section(field.section, node, f"{path}.")
            self.report(path, f"expected a section of keys, got {node.text or 'nothing'}")
            return _NOTHING
        try:
            if isinstance(node, Given) and not is_text(field.kind) and refers(node):
                node = interpolated(node, path, self.merged)
            return convert(node, field.kind)
        except WrongTypeError as error:
            below = self.typed_below(path)
            for key in below:
                self.report(key, f"unknown key; {path} has no keys below it")
            if not below:
                self.report(path, str(error))
            return _NOTHING

    def plugin(self, field: Field, table: Mapping[str, type], node: Given | Tree, path: str) -> Any:
        """The plug-in that ``node`` names, built; ``_NOTHING`` after reporting why it is not."""
        tree = node if isinstance(node, Tree) else Tree({NAME: node})
        own = Tree({key: value for key, value in tree.items() if key != NAME})
        name = tree.get(NAME, Given(field.default_plugin, field.default_plugin))
        if isinstance(name, Given) and isinstance(name.value, str) and name.text in table:
            self.chosen[path] = name.text
            before = self.name_in_file(field, path)
            if before in table and before != name.text:
                lost = names_of(table[before]).keys() - names_of(table[name.text]).keys()
                own = Tree({k: v for k, v in own.items() if k not in lost or _is_typed(v)})
            return self.section(table[name.text], own, f"{path}.")
        text = name.text if isinstance(name, Given) else "a section of keys"
        short = path in self.typed or not isinstance(node, Tree)
        expected = f"expected one of {', '.join(sorted(table))}"
        message = f"{expected}, got {shorten(text)}{did_you_mean(text, table)}"
        self.report(path if short else f"{path}.{NAME}", message)
        known = {key for cls in table.values() for key in names_of(cls)}
        for key in own:
            if key not in known:
                self.unknown(f"{path}.{key}")
        return _NOTHING

    def name_in_file(self, field: Field, path: str) -> str:
        """The plug-in that the file alone would choose."""
        node: Any = self.file
        for name in path.split("."):
            node = node.get(name) if isinstance(node, Tree) else None
        name = node.get(NAME) if isinstance(node, Tree) else node
        return name.text if isinstance(name, Given) else field.default_plugin

    def unknown(self, path: str) -> None:
        """Report an unknown key, as it was typed or as it stands in the file."""
        for key in self.typed_below(path) or [path]:
            self.report(key, unknown_key(key, keys_of(self.schema), self.chosen))

    def typed_below(self, path: str) -> list[str]:
        """The longer keys that were typed on the command line."""
        return [key for key in self.typed if key.startswith(f"{path}.")]

    def report(self, key: str, message: str) -> None:
        """Add one problem."""
        self.problems.append(Problem(key or "config", message))


def _is_typed(node: Given | Tree) -> bool:
    """Whether any of it stood on the command line."""
    return node.typed if isinstance(node, Given) else any(map(_is_typed, node.values()))
