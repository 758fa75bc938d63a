"""What settings refuse: wrong types, broken files, unknown and doubled keys."""

import pytest

from esd_splat.settings import load
from tests.settings.sections import Run, problems


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps=2.5", "expected a whole number, got 2.5"),
        ("steps=1e3", "expected a whole number, got 1e3; write 1000"),
        ("steps=true", "expected a whole number, got true"),
        ("steps=yes", "expected a whole number, got 'yes'"),
        ("steps=!!int many", "expected a whole number, got '!!int many'"),
        ("quick=!!bool yes", "expected true or false, got '!!bool yes'"),
        ("lens.fov=!!float wide", "expected a number, got '!!float wide'"),
        ("steps=", "expected a whole number, got nothing"),
        ("steps=[1]", "expected a whole number, got [1]"),
        ("steps={a: 1}", "expected a whole number, got {a: 1}"),
        ("quick=1", "expected true or false, got 1"),
        ("quick=yes", "expected true or false, got 'yes'"),
        ("lens.fov=wide", "expected a number, got 'wide'"),
        ("lens.fov=false", "expected a number, got false"),
        ("lens.fov=nan", "expected a finite number, got nan"),
        ("lens.fov=.NaN", "expected a finite number, got .NaN"),
        ("lens.fov=-inf", "expected a finite number, got -inf"),
        ("lens.fov=1e999", "expected a finite number, got 1e999"),
        ("lens.limit=inf", "expected a finite number, got inf"),
        ("lens.limit=x", "expected a number, got 'x'"),
        ("lens.distance=3", "expected [number, number], got 3"),
        ("lens.distance=3,4", "expected [number, number], got '3,4'"),
        ("lens.distance=[3]", "expected 2 values as [number, number], got [3]"),
        ("lens.distance=[3, x]", "expected a number, got 'x'"),
        ("formats=ply", "expected a list as [text, ...], got 'ply'"),
        ("layers=[1, 2.5]", "expected a whole number, got 2.5"),
        ("bits=16-mixd", "expected one of 32, 16-mixed, got '16-mixd'; did you mean '16-mixed'?"),
        ("lens=3", "expected a section of keys, got 3"),
        ("force=3", "expected one of pull, push, got '3'"),
        ("force=pul", "expected one of pull, push, got 'pul'; did you mean 'pull'?"),
    ],
)
def test_wrong_types(override: str, message: str) -> None:
    assert problems("prompt: a", override) == [(override.partition("=")[0], message)]


@pytest.mark.parametrize(
    ("yaml", "key", "message"),
    [
        ("prompt: [a]", "prompt", "expected text, got [a]"),
        ("prompt: {a: b}", "prompt", "expected text, got a section of keys"),
        ("prompt: a\nlens:", "lens", "expected a section of keys, got nothing"),
        ("prompt: a\nforce: edd", "force", "expected one of pull, push, got 'edd'"),
        ("prompt: a\nforce: {name: 3}", "force.name", "expected one of pull, push, got '3'"),
        ("prompt: a\nprompt: b", "line 2", "is not YAML: 'prompt' is given twice"),
        ("prompt: a\nlens: {fov: 1.0}\nlens.fov: 2", "lens.fov", "is given twice: '1.0' and '2'"),
        ("prompt: a: b", "line 1", "is not YAML: mapping values are not allowed here; "),
        ("prompt: a\nlens: [", "line 2", "is not YAML: "),
        ("- a", "file", "expected lines of key: value, got '- a'"),
        ("just text", "file", "expected lines of key: value, got 'just text'"),
        ("prompt: &x [*x]", "line 1", "is not YAML: found unconstructable recursive node"),
        ("prompt: \x00", "file", "is not YAML: unacceptable character"),
        ("prompt: a\n---\nprompt: b", "line 2", "is not YAML: but found another document"),
    ],
)
def test_broken_files(yaml: str, key: str, message: str) -> None:
    ((found_key, found),) = problems(yaml)
    assert found_key == key
    assert found.startswith(message)


@pytest.mark.parametrize("yaml", ["", "\n", "# nothing\n", "---\n", "{}"])
def test_an_empty_file_is_all_defaults(yaml: str) -> None:
    assert load(Run, yaml, ["prompt=a"]) == Run(prompt="a")


def test_a_broken_file_does_not_hide_broken_overrides_nor_call_its_keys_missing() -> None:
    assert [key for key, _ in problems("prompt: a: b", "steps=0", "foo")] == [
        "line 1",
        "foo",
        "steps",
    ]


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (["stepps=3"], [("stepps", "unknown key; did you mean 'steps'?")]),
        (["STEPS=3"], [("STEPS", "unknown key; did you mean 'steps'?")]),
        (["Steps=3"], [("Steps", "unknown key; did you mean 'steps'?")]),
        (["weight=3"], [("weight", "unknown key; did you mean 'force.weight'?")]),
        (["lens.weight=3"], [("lens.weight", "unknown key; did you mean 'force.weight'?")]),
        (["lens.steps=3"], [("lens.steps", "unknown key; did you mean 'steps'?")]),
        (["len.size=3"], [("len.size", "unknown key; did you mean 'lens.size'?")]),
        (["force.scael=3"], [("force.scael", "unknown key; did you mean 'force.scale'?")]),
        (
            ["force.tail.lng=3"],
            [("force.tail.lng", "unknown key; did you mean 'force.tail.long'?")],
        ),
        (["qqq=3"], [("qqq", "unknown key")]),
        (["len=3"], [("len", "unknown key; did you mean 'lens'?")]),
        (["steps.foo=3"], [("steps.foo", "unknown key; steps has no keys below it")]),
        (
            ["force=push", "force.weight=1"],
            [("force.weight", "unknown key with force.name=push; force.name=pull has it")],
        ),
        (
            ["force=pusch", "force.weight=9", "force.waight=1"],
            [
                ("force.name", "expected one of pull, push, got 'pusch'; did you mean 'push'?"),
                ("force.waight", "unknown key; did you mean 'force.weight'?"),
            ],
        ),
        (
            ["force=push", "force.tail.long=true"],
            [("force.tail.long", "unknown key with force.name=push; force.name=pull has it")],
        ),
        (["steps=3", "steps=3"], [("steps", "is given twice: '3' and '3'")]),
        (["force=pull", "force.name=push"], [("force.name", "is given twice: 'pull' and 'push'")]),
        (
            ["--steps", "-5"],
            [
                ("--steps", "unknown option; settings are given as key=value, without dashes"),
                ("-5", "unknown option; settings are given as key=value, without dashes"),
            ],
        ),
        (["=3"], [("=3", "expected key=value; put quotes around a value that holds spaces")]),
        ([""], [("''", "expected key=value; put quotes around a value that holds spaces")]),
    ],
)
def test_unknown_malformed_and_doubled_overrides(
    overrides: list[str], found: list[tuple[str, str]]
) -> None:
    assert problems("prompt: a", *overrides) == found


def test_an_unknown_section_of_a_file_is_one_problem() -> None:
    assert problems("prompt: a\nlenss: {size: 3, fov: 4}") == [
        ("lenss", "unknown key; did you mean 'lens'?")
    ]
