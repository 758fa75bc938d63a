"""The messages about bad settings, compared word for word with those listed in bad_inputs.yaml."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from esd_splat import load_config
from esd_splat.errors import ConfigError


@dataclass(frozen=True)
class BadInput:
    """A config and overrides that cannot be used."""

    name: str
    message: str
    """What the user is told."""
    config: str | None = None
    """The text of a file, or the name of a config; ``None`` where no config is given."""
    overrides: tuple[str, ...] = ()


def listed() -> list[BadInput]:
    """The cases of bad_inputs.yaml, in its order."""
    text = Path(__file__).with_name("bad_inputs.yaml").read_text(encoding="utf-8")
    return [
        BadInput(**{**case, "overrides": tuple(case.get("overrides", ()))})
        for case in yaml.safe_load(text)
    ]


BAD_INPUTS = listed()


@pytest.mark.parametrize("case", BAD_INPUTS, ids=lambda case: case.name)
def test_a_bad_input_is_refused_with_the_listed_message(
    case: BadInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In an empty folder, no file of the current one is taken for a config, and messages name the
    # file as the list does, without its folder.
    monkeypatch.chdir(tmp_path)
    config = case.config
    if config is not None and ("\n" in config or ":" in config):
        Path("run.yaml").write_text(config, encoding="utf-8")
        config = "run.yaml"
    with pytest.raises(ConfigError) as caught:
        load_config(config, case.overrides)
    assert str(caught.value) == case.message


def test_at_least_sixty_bad_inputs_are_listed_under_different_names() -> None:
    assert len({case.name for case in BAD_INPUTS}) == len(BAD_INPUTS) >= 60


def test_no_two_bad_inputs_are_refused_for_the_same_reason() -> None:
    # The first line only says where the settings come from and how many of them are wrong.
    reasons = Counter(case.message.partition("\n")[2] for case in BAD_INPUTS)
    assert [reason for reason, count in reasons.items() if count > 1] == []
