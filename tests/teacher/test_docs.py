"""What ``docs/teachers.md`` says of settings is so."""

import re
from pathlib import Path

import pytest
import yaml

from esd_splat import load_config
from esd_splat.settings import to_yaml
from esd_splat.teacher.families import SD, SDXL
from esd_splat.teacher.ip_adapter import AUTHORS
from esd_splat.teacher.stable_diffusion import StableDiffusion

TEACHERS = (Path(__file__).parents[2] / "docs" / "teachers.md").read_text(encoding="utf-8")
CONFIGS = ("threestudio", "esd_sd")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEACHERS.splitlines()
    if re.match(r"\| `[\w.]+` \|", line)
]
SETTINGS = {row[0].strip("`"): row[1:] for row in ROWS if len(row) == 5}


def _values(name: str) -> dict[str, object]:
    """Return the value of every key of a config, by its whole name."""
    found: dict[str, object] = {}

    def walk(node: object, path: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(value, f"{path}.{key}" if path else str(key))
        else:
            found[path] = node

    walk(yaml.safe_load(to_yaml(load_config(name, ["prompt=a"]))), "")
    return found


@pytest.mark.parametrize("column", range(len(CONFIGS)))
def test_the_settings_are_those_of_the_configs(column: int) -> None:
    values = _values(CONFIGS[column])
    said = {key: yaml.safe_load(row[1 + column]) for key, row in SETTINGS.items()}
    assert said == {key: values[key] for key in said}


def test_a_difference_has_a_reason_and_every_difference_is_named() -> None:
    for key, (_, theirs, ours, why) in SETTINGS.items():
        assert bool(why) == (theirs != ours), key
    theirs, ours = (_values(name) for name in CONFIGS)
    rooms = ("loss", "teacher", "lora", "timesteps", "clamp", "cameras", "regularise")
    differ = {key for key in theirs | ours if theirs.get(key) != ours.get(key)}
    of_scene = {"cameras.size_until", "regularise.opacity", "regularise.scale", "teacher.variant"}
    assert {key for key in differ if key.split(".")[0] in rooms} - of_scene <= SETTINGS.keys()


def test_the_keys_of_a_picture() -> None:
    keys = StableDiffusion()
    assert f"| `teacher.image_scale` | {keys.image_scale} |" in TEACHERS
    assert f"| `teacher.image_adapter` | `{AUTHORS}` |" in TEACHERS
    assert keys.image is None
    for family in (SD, SDXL):
        assert f"`{family.ip_adapter}`" in TEACHERS
