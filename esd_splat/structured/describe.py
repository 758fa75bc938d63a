"""A schema as help text, and a config as YAML that ``load`` reads back."""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from esd_splat.structured.convert import describe
from esd_splat.structured.schema import NAME, Key, fields_of, keys_of

_WIDTH = 100


def to_yaml(config: Any, comment: str = "") -> str:
    """Every value of ``config``, defaults included, as YAML from which ``load`` makes its equal.

    Args:
        comment: put on top, each line after a ``#``.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    text = yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True, width=_WIDTH)
    return "\n".join([*lines, text])


def help_text(schema: type) -> str:
    """Every key of ``schema``, those of all plug-ins included: type, default and meaning."""
    lines: list[str] = []
    group = ""
    for key in keys_of(schema):
        section = key.path.rpartition(".")[0]
        title = section + (f" with {key.chooser}.{NAME}={key.plugin}" if key.plugin else "")
        if title != group:
            lines += ["", f"{title}:"]
            group = title
        lines += _entry(key)
    return "\n".join(lines).strip("\n")


def _entry(key: Key) -> Iterator[str]:
    default = "required" if key.default is dataclasses.MISSING else _default(key.default)
    yield f"  {key.path}  ({describe(key.kind)}; {default})"
    yield from textwrap.wrap(
        key.doc.replace("``", ""),
        _WIDTH,
        initial_indent=" " * 6,
        subsequent_indent=" " * 6,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _default(value: Any) -> str:
    if isinstance(value, str):
        return f"default {value}" if value else "empty by default"
    text = yaml.safe_dump(_plain(value), default_flow_style=True, width=10**9, allow_unicode=True)
    # A lone scalar is a whole YAML document, which ends in "...".
    return f"default {text.removesuffix('...' + chr(10)).strip()}"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        tree = {}
        for name, field in fields_of(type(value)).items():
            below = _plain(getattr(value, name))
            if field.table is not None:
                below = {NAME: _name_of(getattr(value, name), field.table)} | below
            tree[name] = below
        return tree
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _name_of(chosen: Any, table: Mapping[str, type]) -> str:
    return next(name for name, cls in table.items() if type(chosen) is cls)
