"""What a schema allows: its keys, their types, meanings, plug-ins and other names."""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

NAME = "name"
"""The key of a plug-in's section that chooses the plug-in."""

_PLUGINS = "plugins"
_ALIASES = "aliases"


def plugin(table: Mapping[str, type], default: str) -> Any:
    """Dataclass field whose class is chosen by the ``name`` key of its section."""
    return dataclasses.field(default_factory=table[default], metadata={_PLUGINS: (table, default)})


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a schema, with its type resolved."""

    name: str
    kind: Any
    """Its type, as ``typing.get_type_hints`` has it."""
    default: Any
    """``dataclasses.MISSING`` when it must be given."""
    doc: str
    aliases: Mapping[str, Callable[[Any], Any]]
    table: Mapping[str, type] | None
    """The plug-ins to choose from; ``None`` for anything that is not a plug-in."""
    default_plugin: str

    @property
    def section(self) -> type | None:
        """The dataclass of a plain section, or ``None``."""
        if (
            self.table is None
            and isinstance(self.kind, type)
            and dataclasses.is_dataclass(self.kind)
        ):
            return self.kind
        return None


@dataclasses.dataclass(frozen=True)
class Key:
    """One leaf that a user can set."""

    path: str
    """Dotted, as typed on the command line."""
    kind: Any
    default: Any
    doc: str
    plugin: str = ""
    """The plug-in that has this key, where only one of several does; see ``chooser``."""
    chooser: str = ""
    """The path of the plug-in section that this key is in; empty outside of one."""


def fields_of(schema: type) -> dict[str, Field]:
    """The fields of a dataclass that a user can give, by name, in order."""
    hints = typing.get_type_hints(schema)
    docs = field_docs(schema)
    found = {}
    for f in dataclasses.fields(schema):
        if not f.init:
            continue
        default = f.default
        if f.default_factory is not dataclasses.MISSING:
            default = f.default_factory()
        table, chosen = f.metadata.get(_PLUGINS, (None, ""))
        aliases = f.metadata.get(_ALIASES, {})
        found[f.name] = Field(
            f.name, hints[f.name], default, docs.get(f.name, ""), aliases, table, chosen
        )
    return found


def names_of(schema: type) -> dict[str, Field]:
    """The fields of a dataclass by every name that they can be given by."""
    fields = fields_of(schema)
    return {alias: f for f in fields.values() for alias in f.aliases} | fields


def keys_of(schema: type, prefix: str = "", plugin: str = "", chooser: str = "") -> Iterator[Key]:
    """Every leaf below ``schema``, in order, all plug-ins of each table included.

    A key that several plug-ins of a table have comes once for each of them.
    """
    for f in fields_of(schema).values():
        path = f"{prefix}{f.name}"
        if f.table is not None:
            doc = f.doc or f"Which {f.name} to use."
            kind = Literal[tuple(f.table)]
            yield Key(f"{path}.{NAME}", kind, f.default_plugin, doc, plugin, chooser)
            for name, chosen in f.table.items():
                yield from keys_of(chosen, f"{path}.", name, path)
        elif f.section is not None:
            yield from keys_of(f.section, f"{path}.", plugin, chooser)
        else:
            yield Key(path, f.kind, f.default, f.doc, plugin, chooser)
            for alias, convert in f.aliases.items():
                required = f.default is dataclasses.MISSING
                default = f.default if required else convert(f.default)
                doc = f"Another way to give {path}."
                yield Key(f"{prefix}{alias}", f.kind, default, doc, plugin, chooser)


@functools.cache
def field_docs(schema: type) -> Mapping[str, str]:
    """Each field's meaning: the string literal under it, own fields and inherited ones."""
    docs: dict[str, str] = {}
    for cls in reversed(schema.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(cls))
        except (OSError, TypeError):  # made at run time: it has no source, and so no docs
            continue
        body = typing.cast(ast.ClassDef, ast.parse(source).body[0]).body
        for statement, below in itertools.pairwise(body):
            match statement, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(doc))),
                ):
                    docs[name] = inspect.cleandoc(doc)
    return docs
