"""Sections of settings, plug-ins that are chosen by name, and the JSON schema of both.

A section is a frozen pydantic dataclass. Its fields are leaves (text, numbers, ``Literal``
choices, tuples, lists, or ``None`` besides one of these), other sections, or plug-ins. The string
literal under a field is its description, and ``Field(ge=..., lt=...)`` gives its range. Checks
across fields belong in ``__post_init__``, which calls ``esd_splat.errors.refuse``. The
``json_schema_extra`` of a ``Field`` can give other names for the field and its choices:

- ``{"x-formerly": "particle"}``: a former name of the key;
- ``{"x-complement": "guidance_scale_lora"}``: a key that stands for 1 minus this one;
- ``{"x-renamed": {"particle": "lora"}}``: former names of choices;
- ``{"x-expected": "one of cpu, cuda:N"}``: the words for what a ``pattern`` allows.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import pydantic.dataclasses
from pydantic import (
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema
from typing_extensions import dataclass_transform

from esd_splat.settings.source import NAME
from esd_splat.settings.words import describe, limits

__all__ = ["NAME", "Field", "OneOf", "Plugin", "json_schema", "section"]


T = TypeVar("T")
Node = dict[str, Any]
"""A JSON schema, or a part of one."""


def _inherit_descriptions(node: Node, cls: type) -> None:
    """Add the descriptions of inherited fields, as pydantic only reads the source of ``cls``."""
    for base in cls.__mro__:
        for name, field in getattr(base, "__pydantic_fields__", {}).items():
            if field.description:
                node["properties"][name].setdefault("description", field.description)


_CONFIG = ConfigDict(
    use_attribute_docstrings=True,
    extra="forbid",
    allow_inf_nan=False,
    json_schema_extra=_inherit_descriptions,
)


@dataclass_transform(frozen_default=True, kw_only_default=False, field_specifiers=(Field,))
def section(cls: type[T]) -> type[T]:
    """Turn ``cls`` into a section: a frozen dataclass that always checks its values.

    Raises:
        ValueError: raised by the constructor of the section, with a line for each value that has
            the wrong type or is out of range.
    """
    made: Any = pydantic.dataclasses.dataclass(frozen=True, config=_CONFIG)(cls)
    checked = made.__init__

    @functools.wraps(checked)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            checked(self, *args, **kwargs)
        except ValidationError as error:
            raise ValueError("\n".join(_faults(made, error))) from None

    made.__init__ = init
    return made


def _faults(cls: type, error: ValidationError) -> Iterator[str]:
    """Yield a line for each value that was refused, beginning with the name of the field."""
    for fault in error.errors():
        if fault["type"] == "value_error":  # raised by ``__post_init__``
            yield str(fault.get("ctx", {}).get("error"))
            continue
        place, value = fault["loc"][0], fault["input"]
        # For a positional argument, pydantic gives the position instead of the name.
        name = dataclasses.fields(cls)[place].name if isinstance(place, int) else place
        node = json_schema(cls)["properties"].get(name, {})
        out_of_range = fault["type"].startswith(("greater", "less", "finite"))
        bounds = f"must be {limits(node) or 'finite'}"
        kind = f"expected {describe(node)}" if node else fault["msg"]
        expected = bounds if out_of_range else kind
        shown = f"{value:g}" if isinstance(value, float) else repr(value)
        yield f"{name}: {expected}, got {shown}"


class OneOf:
    """Annotation of a text field whose value must be one of the names in a table."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.table = table

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.literal_schema(list(self.table))


class Plugin:
    """Annotation of a field whose class is selected by the ``name`` key of its section.

    Example:
        >>> loss: Annotated[ScoreDistillation, Plugin(LOSSES, "esd")] = Esd()  # doctest: +SKIP
    """

    def __init__(self, table: Mapping[str, type], default: str) -> None:
        self.table, self.default = table, default

    def name_of(self, value: Any) -> str | None:
        """Return the name of a plug-in, given as an object or as a mapping of its values."""
        if isinstance(value, dict):
            return value.get(NAME)
        return next((name for name, cls in self.table.items() if type(value) is cls), None)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        choices: dict[Any, CoreSchema] = {
            name: core_schema.no_info_before_validator_function(
                _without_name, handler.generate_schema(cls)
            )
            for name, cls in self.table.items()
        }
        by_name = core_schema.tagged_union_schema(choices, discriminator=self.name_of)
        return core_schema.no_info_wrap_validator_function(
            lambda value, build: build(value) if isinstance(value, dict) else value,
            by_name,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: {
                    NAME: self.name_of(value),
                    **TypeAdapter(type(value)).dump_python(value, mode="json"),
                }
            ),
        )

    def __get_pydantic_json_schema__(
        self, core: Any, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        variants = []
        for name, choice in core["schema"]["choices"].items():
            node = dict(handler.resolve_ref_schema(handler(choice["schema"])))
            chosen = {"const": name, "description": node.get("description", "")}
            node["properties"] = {NAME: chosen} | node.get("properties", {})
            variants.append(node)
        return {"anyOf": [{"enum": list(self.table)}, *variants], "x-default": self.default}


@functools.cache
def json_schema(cls: type) -> Node:
    """Return the JSON schema of a section, with all references replaced by their targets."""
    whole = TypeAdapter(cls).json_schema()
    definitions = whole.pop("$defs", {})

    def inlined(node: Any) -> Any:
        if isinstance(node, list):
            return [inlined(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            target = definitions[node["$ref"].rpartition("/")[2]]
            rest = {key: value for key, value in node.items() if key not in ("$ref", "default")}
            return inlined({**target, **rest})
        node = {key: inlined(value) for key, value in node.items() if key != "title"}
        if "x-default" in node:
            node["default"] = node.pop("x-default")
        if "properties" in node:
            node["properties"] = {
                name: below
                for key, property_ in node["properties"].items()
                for name, below in _by_every_name(key, property_)
            }
        return node

    return inlined(whole)


def _by_every_name(key: str, node: Node) -> list[tuple[str, Node]]:
    """Return a property under its own name and under its other names."""
    names = [(key, node)]
    if other := node.get("x-complement"):
        low, high = 1 - node["maximum"], 1 - node["minimum"]
        text = f"Another way to give {key}, which is 1 minus this."
        alias = {"type": "number", "minimum": low, "maximum": high, "description": text}
        names.append(
            (
                other,
                {**alias, "default": 1 - node["default"], "x-gives": key, "x-complement-of": key},
            )
        )
    if former := node.get("x-formerly"):
        names.append((former, {**node, "deprecated": True, "x-gives": key}))
    return names


def _without_name(value: Any) -> Any:
    return {k: v for k, v in value.items() if k != NAME} if isinstance(value, dict) else value
