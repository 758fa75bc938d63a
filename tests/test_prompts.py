"""The prompt lists that ship with us."""

from pathlib import Path

import pytest

from esd_splat.config_files import shipped_prompts

VIEW_WORDS = ", overhead view"


@pytest.mark.parametrize(("name", "count"), [("prompts_front", 60), ("prompts_no_front", 20)])
def test_they_have_their_number_and_fit_into_77_tokens(name: str, count: int) -> None:
    prompts = shipped_prompts(name)
    assert len(set(prompts)) == len(prompts) == count
    for prompt in prompts:
        assert prompt == " ".join(prompt.split()) != ""
        # A token of CLIP has at least one character, and two more mark the ends of a text.
        assert prompt.isascii()
        assert len(prompt + VIEW_WORDS) + 2 <= 77


def test_no_prompt_is_in_both() -> None:
    assert not {*shipped_prompts("prompts_front")} & {*shipped_prompts("prompts_no_front")}


def test_they_are_installed_with_the_configs() -> None:
    project = Path(__file__).parent.parent / "pyproject.toml"
    assert '"*.txt"' in project.read_text(encoding="utf-8")
