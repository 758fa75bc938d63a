"""Where there is no browser, tests are skipped with the reason, or fail if one was promised."""

import importlib.util
import shutil

import pytest

from tests.browser import chromium, missing


@pytest.fixture(autouse=True)
def _nothing_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ESD_SPLAT_REQUIRE_VIEWERS", raising=False)


def test_without_chromium_the_test_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        chromium()


def test_without_playwright_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match="pip install playwright"):
        chromium()


def test_what_is_required_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESD_SPLAT_REQUIRE_VIEWERS", "1")
    with pytest.raises(pytest.fail.Exception, match="needs a thing"):
        missing("needs a thing")
