"""What an unknown key may have meant."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

from esd_splat.structured.schema import NAME, Key


def unknown_key(path: str, keys: Iterable[Key], chosen: dict[str, str]) -> str:
    """What to tell about ``path``, which is none of ``keys``.

    Args:
        chosen: the path of each plug-in section -> the plug-in in use there.
    """
    section, _, last = path.rpartition(".")
    keys = list(keys)
    if elsewhere := [key for key in keys if key.path == path]:
        name = f"{elsewhere[0].chooser}.{NAME}"
        others = " or ".join(f"{name}={key.plugin}" for key in elsewhere)
        return f"unknown key with {name}={chosen.get(elsewhere[0].chooser)}; {others} has it"
    usable = dict.fromkeys(
        key.path for key in keys if chosen.get(key.chooser, key.plugin) == key.plugin
    )
    near = [known for known in usable if known.lower() == path.lower()]
    near = near or _near(path, section, last, list(usable))
    return f"unknown key; did you mean {' or '.join(map(repr, near))}?" if near else "unknown key"


def _near(path: str, section: str, last: str, paths: list[str]) -> list[str]:
    """The nearest of ``paths``: of the same section, then of the same name, then in spelling."""
    sections = {p.rpartition(".")[0] for p in paths} - {""}
    beside = [p for p in paths if p.rpartition(".")[0] == section]
    if not section:
        beside += sections
    by_name: dict[str, list[str]] = {}
    for p in paths:
        by_name.setdefault(p.rpartition(".")[2], []).append(p)
    if close := get_close_matches(path, beside, n=1, cutoff=0.75):
        return close
    if close := get_close_matches(last, [p.rpartition(".")[2] for p in beside], n=1, cutoff=0.7):
        return [f"{section}.{close[0]}" if section else close[0]]
    if last in by_name:
        return sorted(by_name[last], key=lambda p: -SequenceMatcher(None, path, p).ratio())[:3]
    if close := get_close_matches(path, paths, n=1, cutoff=0.7):
        return close
    names = get_close_matches(last, by_name, n=1, cutoff=0.75)
    if not names:
        long = [n for n in by_name if min(len(n), len(last)) > 3]
        names = [n for n in long if last in n or n in last]
    return [p for name in names for p in by_name[name]][:3]
