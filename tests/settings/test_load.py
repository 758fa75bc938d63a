"""Settings keep text as typed, and one message lists all problems by the keys to type."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esd_splat.errors import ConfigError
from esd_splat.settings import help_text, load, to_yaml
from esd_splat.settings.schema import json_schema, section
from tests.settings.sections import Lens, Pull, Push, Run, problems


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


@pytest.mark.parametrize(
    ("override", "value"),
    [("out=runs/${steps}", "runs/${steps}"), ("folder=${x}", Path("${x}"))],
)
def test_text_that_may_be_none_or_a_path_is_no_reference(override: str, value: object) -> None:
    config = load(Run, "prompt: a", [override])
    assert getattr(config, override.partition("=")[0]) == value


def test_a_required_value_that_is_always_refused_is_told_once() -> None:
    @section
    class Never:
        """A section that nothing satisfies."""

        word: str
        """Required."""

        def __post_init__(self) -> None:
            raise ValueError("word: must be another")

    with pytest.raises(ConfigError, match=r"x: 1 problem\n  word: must be another$"):
        load(Never, "", ["word=b"], source="x")


def test_an_unknown_argument_of_a_section_is_named() -> None:
    with pytest.raises(ValueError, match=r"^weigth: Unexpected keyword argument, got 3$"):
        Pull(weigth=3)  # pyright: ignore[reportCallIssue]


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
