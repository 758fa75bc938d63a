"""Whatever a config says, reading it takes little memory and time."""

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from esd_splat import load_config
from esd_splat.errors import ConfigError
from esd_splat.settings import read_flat

ALIASES = "x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n" + "".join(
    f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
DOUBLING = "prompt: a\nsteps: ${x0}\n" + "".join(
    f"x{n}: '${{x{n + 1}}}${{x{n + 1}}}'\n" for n in range(40)
)
HOSTILE = {
    "large": ("# " + 300_000 * "a", "has more than 256 kB"),
    "aliases": (ALIASES, "line 4: is not YAML: it holds more than 10000 values"),
    "merged aliases": (ALIASES.replace("x", "'<<'  # "), "is not YAML: "),
    "nested": ("a: " + 100_000 * "[", "is not YAML: it is nested more than 32 levels deep"),
    "nested blocks": ("- " * 50_000, "is not YAML: it is nested more than 32 levels deep"),
    "dots": (f"? {'a.' * 50_000}b\n: 1", "is nested more than 32 levels deep"),
    "nested dots": ("a: {" + "a.b.c.d: {" * 20 + "}" * 21, "is nested more than 32 levels deep"),
    "many values": ("x: [" + "1," * 100_000 + "1]", "it holds more than 10000 values"),
    "many keys": ("".join(f"cameras.k{n}: 1\n" for n in range(4_000)), "and 3901 more"),
    "long key": (f"? {20_000 * 'steps'}\n: 1", r"\.\.\.: unknown key"),
    "long number": (
        f"prompt: a\nsteps: {100_000 * '1'}",
        r"expected a whole number, got 1*\.\.\.",
    ),
    "long value": (f"prompt: a\nloss: {20_000 * 'esd'}", r"expected one of .*esd\.\.\.'"),
    "a list as a key": ("? [a]\n: b", "line 1: is not YAML: a key is no text"),
    "no character": (r'prompt: "\UFFFFFFFF"', "is not YAML: "),
    "half a pair": (r"prompt: a" + "\n" + r'negative_prompt: "\ud800"', r"'\\ud800' is not text"),
    "doubling references": (DOUBLING, "leads to more than 50 references"),
    "deep references": (f"prompt: a\nsteps: {'${' * 5000}{'}' * 5000}", "is not a reference to"),
    "escapes": ('prompt: a\nsteps: "\\e[31m\\n"', r"got '\\x1b\[31m'"),
}


def _within(load: Callable[[], object], size: int, message: str) -> None:
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=message) as caught:
            load()
        assert tracemalloc.get_traced_memory()[1] < 64e6 + 40 * size
    finally:
        tracemalloc.stop()
    # With room for a slow machine and for the tracing of allocations.
    assert time.process_time() - began < 5 * (1 + size / 1e6)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 102
    assert all(line.isprintable() and len(line) < 500 for line in lines)


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_config_is_refused_within_the_bounds(tmp_path: Path, name: str) -> None:
    text, message = HOSTILE[name]
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    _within(lambda: load_config(tmp_path / "run.yaml"), len(text), message)


def test_text_that_no_file_can_hold_is_refused_under_any_key() -> None:
    with pytest.raises(ConfigError, match=r"negative_prompt: must be text in UTF-8, got '\\udcff'"):
        load_config(None, ["prompt=an owl", "negative_prompt=\udcff"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 2001-99-99", "month must be in 1..12"),
        ("a: !!int x", "invalid literal"),
        ("a: !!float x", "could not convert"),
        ("a: !!python/name:os.system x", "could not determine a constructor"),
        (ALIASES, "more than 10000 values"),
    ],
)
def test_the_config_of_another_version_is_read_within_the_bounds(text: str, message: str) -> None:
    _within(lambda: read_flat(text, "config.yaml"), len(text), message)


def test_a_number_too_long_to_be_one_is_text() -> None:
    assert read_flat(f"a: 0x{'f' * 5000}\nb: !!int {'1' * 5000}\nc: 7", "config.yaml") == {
        "a": "0x" + "f" * 5000,
        "b": "1" * 5000,
        "c": 7,
    }


def test_aliases_in_a_sensible_number_are_followed(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("prompt: &p an owl\nnegative_prompt: *p\n")
    assert load_config(tmp_path / "run.yaml").negative_prompt == "an owl"
