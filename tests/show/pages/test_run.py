"""What is read back from a run's folder, whatever its state."""

import shutil
from pathlib import Path

import pytest

from esd_splat.errors import EsdSplatError
from esd_splat.show.pages import read_run, read_scene
from esd_splat.show.pages.run import READABLE
from tests.formats.scenes import FORMATS
from tests.runs import balls, make_run


def test_what_a_run_says_of_itself(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", measures={"faces": 1}))
    assert (run.prompt, run.method) == ("a red owl", "esd")
    assert run.settings["loss.entropy_weight"] == 1.0
    assert run.measures == {"faces": 1}
    assert run.versions == "esd_splat 0.1; torch 2"
    assert run.progress == "500 steps"
    assert run.metrics[-1] == {"step": 120, "direction": 0.5}


def test_a_run_that_goes_on_says_how_far_it_is(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "steps: 500\n", finished=False, scene=None)
    run = read_run(folder)
    assert run.progress == "unfinished: step 120 of 500"
    assert run.prompt == "run", "the folder's name, where the config has none"
    assert run.measures == {}
    with pytest.raises(EsdSplatError, match=r"run: no scene to show; a run writes it when"):
        read_scene(run)
    (folder / "metrics.csv").unlink()
    assert read_run(folder).progress == "unfinished, no step on record"


def test_the_most_exact_scene_is_shown(tmp_path: Path) -> None:
    assert sorted(READABLE) == sorted(f"scene.{name}" for name in FORMATS)
    folder = make_run(tmp_path / "run", scene="splat")
    assert len(read_scene(read_run(folder))) == len(balls())
    run = read_run(shutil.copytree(make_run(tmp_path / "other"), folder, dirs_exist_ok=True))
    assert run.scene_file == folder / "scene.ply"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: shutil.rmtree(run), "no such folder; give the folder of a run, its out="),
        (lambda run: (run / "config.yaml").unlink(), "not the folder of a run, as it has no"),
        (lambda run: (run / "config.yaml").write_text("a: [1"), r"config\.yaml: "),
        (lambda run: (run / "config.yaml").write_text("just words"), r"config\.yaml: "),
        (lambda run: (run / "config.yaml").write_bytes(b"\xff"), "is not text in UTF-8"),
        (lambda run: (run / "metrics.csv").write_text("step,x\n1,a\n"), "not a table of numbers"),
        (lambda run: (run / "metrics.csv").write_text("step\n1,2\n"), "not a table of numbers"),
        (lambda run: (run / "metrics.csv").write_text("step\n1\n"), "as it has steps only"),
        (lambda run: (run / "metrics.csv").write_text("x\n1\n"), "numbers over steps"),
        (lambda run: (run / "diagnostics.csv").write_text("step,x\n1,2\n"), "of diagnoses"),
        (lambda run: (run / "summary.json").write_text("{"), "not a summary"),
        (lambda run: (run / "summary.json").write_text("[1]"), "not a summary"),
        (lambda run: (run / "summary.json").write_text('{"measures": 3}'), "not a summary"),
        (
            lambda run: (run / "summary.json").write_text('{"measures": {"faces": "two"}}'),
            "faces is measured as 'two', which is no number",
        ),
    ],
)
def test_what_is_broken_is_named_in_one_line(tmp_path: Path, spoil, message: str) -> None:
    folder = make_run(tmp_path / "run")
    spoil(folder)
    with pytest.raises(EsdSplatError, match=message) as raised:
        read_run(folder)
    assert str(raised.value).startswith(str(folder))
    assert "\n" not in str(raised.value)
