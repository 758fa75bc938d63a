"""What the README shows works as it stands there."""

import importlib.util
import re
from pathlib import Path
from typing import Annotated

import pytest

from esd_splat.__main__ import COMMANDS
from esd_splat.distill.losses import LOSSES, Esd, ScoreDistillation
from esd_splat.errors import ConfigError
from esd_splat.settings import load
from esd_splat.settings.schema import Plugin, section

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_new_loss(tmp_path: Path) -> None:
    (code,) = re.findall(
        r"```python\n(# esd_splat/distill/losses/mine\.py.*?)```", README, re.DOTALL
    )
    (tmp_path / "mine.py").write_text(code)
    spec = importlib.util.spec_from_file_location("mine", tmp_path / "mine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    @section
    class Config:
        """What a config is once the table has the line."""

        loss: Annotated[ScoreDistillation, Plugin({**LOSSES, "mine": module.Mine}, "esd")] = Esd()
        """Which loss."""

    keys = ["loss.name=mine", "loss.strength=0.3"]
    assert load(Config, "", keys).loss == module.Mine(strength=0.3)
    with pytest.raises(ConfigError, match=r"loss\.strength: must be in \[0, 1\], got 3"):
        load(Config, "", ["loss.name=mine", "loss.strength=3"])


def test_the_lines_without_make_are_makes_own() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    for words in ("setuptools torch", "--no-build-isolation -e ."):
        assert words in README
        assert words in makefile


def test_the_pictures_and_pages_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (Path(__file__).parent.parent / target).exists(), target


def test_every_command_that_it_names_exists() -> None:
    named = re.findall(r"(?:\besd-splat |\bpython -m esd_splat\.)([a-z]+)\b", README)
    assert set(named) <= set(COMMANDS)
    assert {"fit", "doctor"} <= set(named)
