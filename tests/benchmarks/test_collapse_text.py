"""Every number in the words of the study, and of the README about it, is what the rows say."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.collapse.runs import HERE
from tests.benchmarks.sentences import (
    CLAIMS,
    HELD,
    LABELS,
    OFF_RECORD,
    README_HELD,
    SPEECH,
    WORDS,
    Values,
)

ROOT = Path(__file__).parents[2]
NUMBER = re.compile(
    rf"\d(?:[\d.]*\d)?|\b(?:{'|'.join(WORDS)}|hundreds?|thousands?|half|thirds?|quarters?|twice|none)\b",
    re.IGNORECASE,
)


def _plain(markdown: str) -> str:
    """The sentences alone: no commands, code, prompts or numbers of headings."""
    text = re.sub(r"(?m)^ {4}\S.*\n(?: {4,}.*\n)*", "", markdown)
    text = re.sub(r"\{\{.*?\}\}", "§", text, flags=re.DOTALL)
    text = re.sub(r"\{([%#]).*?\1\}", "", text, flags=re.DOTALL)
    text = re.sub(r"`[^`]*`|\"[^\"]*\"", "", text)
    text = re.sub(r"\*\*\d\. ", "**", text)
    return " ".join(text.split())


def _left(text: str, held: Mapping[str, Values]) -> Iterator[str]:
    """The surroundings of every number that nothing accounts for."""
    phrases = [pattern.format(*values()) for pattern, values in held.items()]
    covered: set[int] = set()
    for phrase in (*phrases, *SPEECH, *OFF_RECORD):
        for found in re.finditer(re.escape(phrase), text):
            covered |= {*range(*found.span())}
    for label, known in LABELS.items():
        for found in re.finditer(label, text):
            covered |= {*range(*found.span(1))} if found.group(1) in known else set()
    for found in NUMBER.finditer(text):
        if found.start() not in covered:
            yield text[max(0, found.start() - 50) : found.end() + 50]


README = _plain(
    "\n\n".join(
        paragraph
        for paragraph in (ROOT / "README.md").read_text(encoding="utf-8").split("\n\n")
        if "benchmarks/collapse" in paragraph
    )
)
PAGE = _plain((HERE / "text.md").read_text(encoding="utf-8"))


def test_every_number_in_the_words_of_the_page_is_accounted_for() -> None:
    assert not [*_left(PAGE, HELD)]


def test_every_number_of_the_readme_about_the_study_is_accounted_for() -> None:
    assert not [*_left(README, README_HELD)]


@pytest.mark.parametrize("pattern", README_HELD)
def test_what_the_readme_says_of_the_study_is_true(pattern: str) -> None:
    assert pattern.format(*README_HELD[pattern]()) in README


@pytest.mark.parametrize("pattern", HELD)
def test_what_is_written_out_is_true(pattern: str) -> None:
    assert pattern.format(*HELD[pattern]()) in PAGE


@pytest.mark.parametrize("phrase", [*SPEECH, *OFF_RECORD])
def test_no_exception_outlives_its_sentence(phrase: str) -> None:
    assert phrase in PAGE + README


@pytest.mark.parametrize("sentence", CLAIMS)
def test_a_claim_without_a_number_is_true(sentence: str) -> None:
    assert sentence in PAGE
    assert CLAIMS[sentence]()


@pytest.mark.parametrize("planted", ["eleven of these", "by 3.7 dB", "at guidance 4", "a third"])
def test_a_number_that_nothing_accounts_for_is_found(planted: str) -> None:
    assert len([*_left(f"{PAGE} It was {planted}.", HELD)]) == 1
