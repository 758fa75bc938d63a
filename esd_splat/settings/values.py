"""Conversion of one value from text to the type in the schema."""

import math
import operator
import re
from contextlib import suppress
from typing import Any

from esd_splat.errors import one_line, quoted
from esd_splat.settings.source import SHOWN, SURROGATE, parsed
from esd_splat.settings.words import Node, describe, did_you_mean, limits

NULL = ("", "~", "null", "Null", "NULL")
TYPES = {"boolean": (bool,), "integer": (int,), "number": (int, float)}
LIMITS = {"minimum": operator.ge, "exclusiveMinimum": operator.gt}
LIMITS |= {"maximum": operator.le, "exclusiveMaximum": operator.lt}
LARGEST_WHOLE = 2**53
"""Up to this size, a float is one whole number and no other."""


class WrongValueError(Exception):
    """A value cannot be used. The message says what was expected."""


def leaf(node: Node, given: Any) -> Any:
    """Convert ``given`` to the type of ``node``. Text is kept, all else is read as YAML 1.2."""
    if "anyOf" in node:
        if given in NULL:
            return None
        node = node["anyOf"][0]
    if node.get("type") == "array":
        items = parsed(given)
        if not isinstance(items, list):
            raise WrongValueError(f"expected {describe(node)}, got {got(given)}")
        nodes = node.get("prefixItems", [node.get("items")] * len(items))
        if len(nodes) != len(items):
            expected = f"expected {len(nodes)} values as {describe(node)}"
            raise WrongValueError(f"{expected}, got {got(given)}")
        return [leaf(one, item) for one, item in zip(nodes, items, strict=True)]
    given = node.get("x-renamed", {}).get(given, given) if isinstance(given, str) else given
    value = given if node.get("type") == "string" or not isinstance(given, str) else _scalar(given)
    if "enum" in node:
        if value in node["enum"]:
            return value
        near = did_you_mean(str(given), map(str, node["enum"]))
        raise WrongValueError(f"expected {describe(node)}, got {got(given)}{near}")
    if node.get("type") == "string" and isinstance(given, str):
        if SURROGATE.search(given):
            raise WrongValueError(f"must be text in UTF-8, got {quoted(given, SHOWN)}")
        if not re.search(node.get("pattern", ""), given):
            raise WrongValueError(f"expected {describe(node)}, got {got(given)}")
        return value
    if type(value) not in TYPES.get(node.get("type", ""), ()):
        whole = isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_WHOLE
        hint = f"; write {value:.0f}" if whole else ""
        raise WrongValueError(f"expected {describe(node)}, got {got(given)}{hint}")
    if not math.isfinite(value):
        raise WrongValueError(f"expected a finite number, got {one_line(given)}")
    if not all(holds(value, node[name]) for name, holds in LIMITS.items() if name in node):
        raise WrongValueError(f"must be {limits(node)}, got {one_line(given)}")
    return value


def _scalar(text: str) -> Any:
    """Parse a scalar as YAML 1.2: ``1e-3`` is a number, but ``no``, ``1:30`` and dates are text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def got(given: Any) -> str:
    """Return the value that was given as a message shows it."""
    if isinstance(given, dict):
        return "a section of keys"
    if isinstance(given, list):
        return one_line(f"[{', '.join(map(str, given))}]")
    if given in NULL or given[0] in "[{" or _scalar(given) != given:
        return one_line(given) or "nothing"
    return quoted(given, SHOWN)
