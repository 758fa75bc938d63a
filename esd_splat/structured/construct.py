"""Call a dataclass with values of the right types, and find every value that its checks refuse."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from esd_splat.structured.schema import Field

_STAND_INS: dict[Any, Any] = {str: "a", int: 1, float: 1.0, bool: False}
"""For required fields that are missing, so that the other values can still be checked."""


class Fault(NamedTuple):
    """One thing that ``__post_init__`` said is wrong."""

    name: str
    """The field; empty when the message names none."""
    message: str


def construct(
    schema: type, fields: Mapping[str, Field], values: Mapping[str, Any]
) -> tuple[Any, list[Fault]]:
    """``schema(**values)`` and no faults, or ``None`` and all faults that can be told.

    ``__post_init__`` stops at its first fault, so each value that it refuses is left out and the
    rest tried again.
    """
    stand_ins = {f.name: _STAND_INS.get(f.kind) for f in fields.values() if _is_required(f)}
    required = {name: value for name, value in stand_ins.items() if name not in values}
    faults: list[Fault] = []
    remaining = dict(values)
    while True:
        built, found = _attempt(schema, fields, required, remaining)
        faults += found
        bad = {fault.name for fault in found} & remaining.keys()
        if not bad:
            break
        remaining = {name: value for name, value in remaining.items() if name not in bad}
        required |= {name: stand_ins[name] for name in bad & stand_ins.keys()}
    if found:
        # A check of several fields blamed one that was not given: look at each value alone.
        for name, value in remaining.items():
            _, alone = _attempt(schema, fields, stand_ins, {name: value})
            faults += [fault for fault in alone if fault.name == name]
    return (None if faults else built), list(dict.fromkeys(faults))


def _attempt(
    schema: type,
    fields: Mapping[str, Field],
    required: Mapping[str, Any],
    values: Mapping[str, Any],
) -> tuple[Any, list[Fault]]:
    try:
        return schema(**{**required, **values}), []
    except ValueError as error:
        faults = []
        for line in str(error).splitlines() or ["cannot be used"]:
            name, separator, message = line.partition(": ")
            known = bool(separator) and name in fields
            faults.append(Fault(name, message) if known else Fault("", line))
        return None, faults


def _is_required(field: Field) -> bool:
    return field.default is dataclasses.MISSING
