"""The words for a schema: expected types, suggested keys, and the help of the command line."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher, get_close_matches
from typing import Any, NamedTuple

import yaml

from esd_splat.settings.source import NAME

Node = Mapping[str, Any]
"""A JSON schema, or a part of one, as ``schema.json_schema`` makes it."""
NEAR = 0.7
"""The similarity, as measured by difflib, from which a name is suggested for another."""
WIDTH = 100
LONGEST_KEY = 100
"""Longer keys are similar to none, and comparing them would take long."""
WORDS = {"boolean": "true or false", "integer": "a whole number", "number": "a number"}
WORDS |= {"string": "text", "null": "null"}


class Key(NamedTuple):
    """A leaf of the schema that a user can set."""

    path: str
    """The dotted key, as it is typed on the command line."""
    node: Node
    required: bool
    plugin: str
    """The plug-in that has this key, if the key is in a plug-in section. Otherwise empty."""
    chooser: str
    """The path of the plug-in section that this key is in. Otherwise empty."""


def variants(node: Node) -> dict[str, Node]:
    """Return the schemas of the plug-ins by name. Empty if ``node`` is not a plug-in section."""
    options = [one for one in node.get("anyOf", ()) if "properties" in one]
    return {one["properties"][NAME]["const"]: one for one in options}


def is_text(node: Node) -> bool:
    """Return whether a value is kept as it was written: any text, ``None`` or a list of texts."""
    kinds = [node, *node.get("anyOf", ()), node.get("items", {})]
    return any(kind.get("type") == "string" and "enum" not in kind for kind in kinds)


def keys_of(node: Node, prefix: str = "", plugin: str = "", chooser: str = "") -> Iterator[Key]:
    """Yield the leaves of a section in order, once per plug-in that has one, by current names."""
    for name, below in node["properties"].items():
        path = f"{prefix}{name}"
        if "const" in below or below.get("deprecated"):
            continue
        if table := variants(below):
            choice = {"enum": list(table), **{k: v for k, v in below.items() if k != "anyOf"}}
            yield Key(f"{path}.{NAME}", choice, False, plugin, chooser)
            for one, variant in table.items():
                yield from keys_of(variant, f"{path}.", one, path)
        elif "properties" in below:
            yield from keys_of(below, f"{path}.", plugin, chooser)
        else:
            yield Key(path, below, name in node.get("required", ()), plugin, chooser)


def describe(node: Node) -> str:
    """Return a type in words."""
    if "x-expected" in node:
        return node["x-expected"]
    if "enum" in node:
        return f"one of {', '.join(map(str, node['enum']))}"
    if "anyOf" in node:
        return " or ".join(map(describe, node["anyOf"]))
    if "prefixItems" in node:
        return f"[{', '.join(describe(n).removeprefix('a ') for n in node['prefixItems'])}]"
    if "enum" in node.get("items", {}):
        return f"a list of any of {', '.join(node['items']['enum'])}"
    if "items" in node:
        return f"a list as [{describe(node['items']).removeprefix('a ')}, ...]"
    return "a path" if node.get("format") == "path" else WORDS.get(node.get("type", ""), "a value")


def limits(node: Node) -> str:
    """Return a range in words. Empty for a type without a range."""
    low = node.get("minimum", node.get("exclusiveMinimum"))
    high = node.get("maximum", node.get("exclusiveMaximum"))
    if low is not None and high is not None:
        opening, closing = "[" if "minimum" in node else "(", "]" if "maximum" in node else ")"
        return f"in {opening}{low:.9g}, {high:.9g}{closing}"
    if low is not None:
        return f"{'at least' if 'minimum' in node else 'above'} {low:.9g}"
    if high is not None:
        return f"{'at most' if 'maximum' in node else 'below'} {high:.9g}"
    parts = [*node.get("anyOf", ()), *node.get("prefixItems", ()), node.get("items", {})]
    return next(filter(None, map(limits, filter(None, parts))), "")


def did_you_mean(text: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'esd'?"``, or nothing if no name is similar."""
    close = get_close_matches(text, list(allowed), n=1, cutoff=NEAR)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_key(path: str, schema: Node, chosen: Mapping[str, str]) -> str:
    """Return the message about ``path``, which is not a key of ``schema``.

    Args:
        chosen: maps the path of each plug-in section to the plug-in that is used there.
    """
    keys = list(keys_of(schema))
    if elsewhere := [key for key in keys if key.path == path]:
        name = f"{elsewhere[0].chooser}.{NAME}"
        others = " or ".join(f"{name}={key.plugin}" for key in elsewhere)
        return f"unknown key with {name}={chosen.get(elsewhere[0].chooser)}; {others} has it"
    usable = [key.path for key in keys if chosen.get(key.chooser, key.plugin) == key.plugin]
    near = _near(path.lower(), list(dict.fromkeys(usable)))
    return f"unknown key; did you mean {' or '.join(map(repr, near))}?" if near else "unknown key"


def help_text(schema: Node) -> str:
    """Describe all keys of a section and its plug-ins: type, range, default and meaning."""
    lines: list[str] = []
    group = ""
    for path, node, required, plugin, chooser in keys_of(schema):
        title = path.rpartition(".")[0] + (f" with {chooser}.{NAME}={plugin}" if plugin else "")
        if title != group:
            lines += ["", f"{title}:"]
            group = title
        default = "required" if required else _default(node.get("default"))
        kind = ", ".join(filter(None, (describe(node), limits(node))))
        lines.append(f"  {path}  ({kind}; {default})")
        text = " ".join(node.get("description", "").replace("``", "").split())
        lines += textwrap.wrap(f"{' ' * 6}{text}", WIDTH, subsequent_indent=" " * 6)
    return "\n".join(lines).strip("\n")


def _near(path: str, usable: list[str]) -> list[str]:
    """Return the nearest keys: in the same section, else of equal name, else similar ones."""
    if len(path) > LONGEST_KEY:
        return []
    section, _, last = path.rpartition(".")
    known = [*usable, *sorted({key.rpartition(".")[0] for key in usable} - {""})]

    def whole(key: str) -> float:
        return SequenceMatcher(None, path, key.lower()).ratio()

    def either(key: str) -> float:
        name = SequenceMatcher(None, last, key.lower().rpartition(".")[2]).ratio()
        return max(whole(key), name - 0.05)

    beside = [key for key in known if key.rpartition(".")[0].lower() == section]
    if beside and whole(best := max(beside, key=whole)) >= 0.75:
        return [best]
    if same := [key for key in usable if key.lower().rpartition(".")[2] == last]:
        return sorted(same, key=whole, reverse=True)[:3]
    best = max(known, key=either)
    return [best] if either(best) >= NEAR else []


def _default(value: Any) -> str:
    if isinstance(value, str):
        return f"default {value}" if value else "empty by default"
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True)
    # YAML ends a document that is a lone scalar with "...".
    return f"default {text.removesuffix('...' + chr(10)).strip()}"
