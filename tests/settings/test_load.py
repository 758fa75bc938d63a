"""Settings keep text as typed, and one message lists all problems by the keys to type."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esd_splat.errors import ConfigError
from esd_splat.settings import help_text, load, to_yaml
from esd_splat.settings.schema import Field, Plugin, json_schema, section


@section
class Tail:
    """A section of a plug-in."""

    long: bool = False
    """Whether it is."""


@section
class Pull:
    """A plug-in."""

    weight: float = Field(default=1.0, ge=0, le=4, json_schema_extra={"x-complement": "scale"})
    """How hard."""
    shared: int = 1
    """Both have it."""
    tail: Tail = Tail()


@section
class Push:
    """Another."""

    shared: int = 2
    """Both have it."""


PLUGINS = {"pull": Pull, "push": Push}


@section
class Lens:
    """A section."""

    distance: tuple[float, float] = (3.0, 4.0)
    """From the origin."""
    size: int = Field(default=64, ge=8)
    """Pixels."""
    fov: float = 40.0
    """Degrees."""
    limit: float | None = Field(default=None, ge=0)
    """Or none."""

    def __post_init__(self) -> None:
        if self.distance[0] > self.distance[1]:
            raise ValueError("distance: low must not exceed high")
        if self.fov < 1 and self.size > 99:
            raise ValueError("a lens so long needs a smaller size")


@section
class Run:
    """A whole."""

    prompt: str
    """What to make."""
    steps: int = Field(default=600, ge=1)
    """How many."""
    out: str | None = None
    """Where to."""
    bits: Literal["32", "16-mixed"] = "32"
    """Precision."""
    quick: bool = False
    """Whether to hurry."""
    formats: tuple[str, ...] = ("ply",)
    """Kinds of file."""
    layers: list[int] = Field(default_factory=list)
    """Which ones."""
    folder: Path = Path("here")
    """A path."""
    force: Annotated[object, Plugin(PLUGINS, "pull")] = Pull()
    """Which force to use."""
    lens: Lens = Lens()


def problems(yaml: str, *overrides: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(Run, yaml, overrides)
    return [(p.key, p.message) for p in caught.value.problems]


def test_precedence_is_default_then_file_then_command_line() -> None:
    config = load(Run, "prompt: a\nsteps: 3\nlens: {size: 9}", ["lens.size=10"])
    assert (config.steps, config.lens.size, config.lens.fov) == (3, 10, 40.0)


def test_every_problem_comes_in_one_message() -> None:
    yaml = "steps: many\nforce: {name: pull, weigth: 0.3}\nlens: {distance: [2, 1], foo: 1}\n"
    with pytest.raises(ConfigError) as caught:
        load(Run, yaml, ["quick=3", "lens.size=3", "foo", "bits=64"], source="bad.yaml")
    assert str(caught.value) == (
        "bad.yaml: 9 problems\n"
        "  foo: expected key=value; put quotes around a value that holds spaces\n"
        "  steps: expected a whole number, got 'many'\n"
        "  force.weigth: unknown key; did you mean 'force.weight'?\n"
        "  lens.foo: unknown key; did you mean 'lens.fov'?\n"
        "  quick: expected true or false, got 3\n"
        "  lens.size: must be at least 8, got 3\n"
        "  bits: expected one of 32, 16-mixed, got 64\n"
        "  prompt: is required; give it as prompt=...\n"
        "  lens.distance: low must not exceed high"
    )


def test_range_errors_show_beside_those_of_broken_subsections() -> None:
    assert [key for key, _ in problems("prompt: a", "force.weight=7", "steps=0")] == [
        "force.weight",
        "steps",
    ]


def test_a_check_of_several_fields_does_not_hide_the_others() -> None:
    found = problems("prompt: a", "lens.fov=0.5", "lens.size=100", "lens.limit=-1", "steps=0")
    assert found == [
        ("lens.limit", "must be at least 0, got -1"),
        ("steps", "must be at least 1, got 0"),
        ("lens", "a lens so long needs a smaller size"),
    ]


def test_a_check_that_blames_nothing_given_does_not_stumble_over_what_is_required() -> None:
    @section
    class Needy:
        """One required field, and a check that belongs to no field."""

        word: str
        """Required."""
        other: int = 1
        """Not."""

        def __post_init__(self) -> None:
            raise ValueError("no such combination")

    with pytest.raises(ConfigError, match="no such combination"):
        load(Needy, "", ["word=a", "other=2"], source="x")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2001",
            "1e3",
            "0010",
            "no",
            "null",
            "~",
            "true",
            "[a, b]",
            "{a: b}",
            "{",
            "'",
            '"',
            "# x",
        ),
        *(
            "a cat, red: big",
            'say "hi", now',
            "a=b",
            "=",
            "- x",
            "&x",
            "*x",
            "!!int 3",
            "%",
            "@",
            "|",
        ),
        *("${steps}", "a ${ sign", "$x", "\\${y}", "  padded ", "100%: all", "猫", "a\tb", "1:30"),
    ],
)
def test_typed_text_comes_through_as_it_was_typed(text: str) -> None:
    config = load(Run, "prompt: other", [f"prompt={text}"])
    assert config.prompt == text
    assert load(Run, to_yaml(config)) == config


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"))))
def test_any_typed_text_comes_through(text: str) -> None:
    config = load(Run, "", [f"prompt={text}"])
    assert config.prompt == text
    assert load(Run, to_yaml(config)) == config


@pytest.mark.parametrize(
    ("yaml", "text"),
    [
        ("prompt: 2001", "2001"),
        ("prompt: 1e3", "1e3"),
        ("prompt: no", "no"),
        ("prompt: true", "true"),
        ("prompt: 2001-01-01", "2001-01-01"),
        ("prompt: 'a cat: red'", "a cat: red"),
        ("prompt: ${steps} cats", "${steps} cats"),
        ("prompt: >\n  a red\n  owl", "a red owl"),
    ],
)
def test_text_of_a_file_is_what_yaml_quotes_or_not(yaml: str, text: str) -> None:
    assert load(Run, yaml).prompt == text


def test_text_that_may_be_none() -> None:
    assert load(Run, "prompt: a\nout: x", ["out=null"]).out is None
    assert load(Run, "prompt: a\nout: null").out is None
    assert load(Run, "prompt: a", ["out=3"]).out == "3"


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


def test_other_names_of_a_key() -> None:
    assert load(Run, "prompt: a", ["force.scale=0.25"]).force == Pull(weight=0.75)
    assert load(Run, "prompt: a\nforce: {scale: 0.25}").force == Pull(weight=0.75)
    assert load(Run, "prompt: a\nforce: {weight: 3}", ["force.scale=1"]).force == Pull(weight=0.0)
    assert problems("prompt: a", "force.scale=9") == [("force.scale", "must be in [-3, 1], got 9")]
    assert problems("prompt: a", "force.scale=1", "force.weight=2") == [
        ("force.weight", "says the same as force.scale; give only one of them")
    ]


def test_plugins_are_chosen_by_name_in_any_form() -> None:
    for yaml in ("force: push", "force: {name: push}", "force.name: push"):
        assert load(Run, f"prompt: a\n{yaml}").force == Push()
    for override in ("force=push", "force.name=push", "force={name: push}"):
        assert load(Run, "prompt: a\nforce: {weight: 2}", [override]).force == Push()
    assert load(Run, "prompt: a\nforce: pull", ["force.weight=2"]).force == Pull(weight=2.0)
    assert load(Run, "prompt: a", ["force={weight: 2}"]).force == Pull(weight=2.0)


def test_choosing_another_plugin_keeps_what_both_have() -> None:
    yaml = "prompt: a\nforce: {name: pull, weight: 2, shared: 7}"
    assert load(Run, yaml, ["force=push"]).force == Push(shared=7)
    alias = "prompt: a\nforce: {scale: 0.5, shared: 7}"
    assert load(Run, alias, ["force=push"]).force == Push(shared=7)
    typo = "prompt: a\nforce: {name: pull, waight: 2}"
    assert [key for key, _ in problems(typo, "force=push")] == ["force.waight"]


def test_references_to_other_keys() -> None:
    yaml = "prompt: a ${ sign\nsteps: ${lens.size}\nlens: {size: 99, fov: '${steps}'}"
    config = load(Run, yaml)
    assert (config.steps, config.lens.fov, config.prompt) == (99, 99.0, "a ${ sign")
    ((key, message),) = problems("prompt: a\nsteps: ${foo}")
    assert (key, message) == (
        "steps",
        "${foo} cannot be resolved: Interpolation key 'foo' not found",
    )
    assert problems("prompt: a", "steps=${")[0][0] == "steps"


def test_values_have_their_types() -> None:
    yaml = "prompt: a\nlayers: [1, 2_000]\nformats: [1, no]\nfolder: 3\n"
    config = load(Run, f"{yaml}lens: {{fov: 3, distance: [1, 2]}}")
    assert config.layers == [1, 2000]
    assert config.formats == ("1", "no")
    assert config.folder == Path("3")
    assert isinstance(config.lens.fov, float)
    assert config.lens.distance == (1.0, 2.0)
    assert all(isinstance(x, float) for x in config.lens.distance)


def test_the_printed_config_is_read_back_the_same() -> None:
    config = load(
        Run,
        "prompt: '2001: ${x}'",
        ["force=push", "lens.limit=1e-7", "formats=[]", "out=null", "lens.fov=1e+20"],
    )
    text = to_yaml(config, comment="two\nlines")
    assert text.startswith("# two\n# lines\nprompt: '2001: ${x}'\n")
    assert load(Run, text) == config


def test_help_tells_every_key() -> None:
    text = help_text(json_schema(Run))
    assert "  prompt  (text; required)\n      What to make.\n" in text
    assert "  steps  (a whole number, at least 1; default 600)\n      How many.\n" in text
    assert "  out  (text or null; default null)\n" in text
    assert "  lens.distance  ([number, number]; default [3.0, 4.0])\n" in text
    assert "  force.name  (one of pull, push; default pull)\n" in text
    assert (
        "force with force.name=pull:\n  force.weight  (a number, in [0, 4]; default 1.0)\n" in text
    )
    assert (
        "  force.scale  (a number, in [-3, 1]; default 0.0)\n"
        "      Another way to give weight, which is 1 minus this.\n"
    ) in text
    assert "force.tail with force.name=pull:\n" in text
    assert "force.tail with force.name=pull:\n  force.tail.long  (true or false; " in text
    assert "force with force.name=push:\n  force.shared  (a whole number; default 2)\n" in text


def test_docs_are_inherited() -> None:
    @section
    class Longer(Lens):
        zoom: float = 1.0
        """How near."""

    inherited, own = json_schema(Lens)["properties"], json_schema(Longer)["properties"]
    assert own["fov"] == inherited["fov"]
    assert own["zoom"]["description"] == "How near."
