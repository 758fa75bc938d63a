"""Where the front of a run's scene is, and ``export --turn``."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from esd_splat.export import main
from esd_splat.formats import load_scene
from esd_splat.run.folder import EVALUATION
from esd_splat.run.front import known_front
from tests.runs import balls, make_run


def _judged(run: Path, front: Any) -> None:
    (run / EVALUATION).write_text(json.dumps({"front_deg": front}))


def test_the_truth_counts_before_the_judge(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", measures={"rotation_deg": 12.5})
    _judged(run, 90)
    assert known_front(run / "scene.ply") == 12.5
    run = make_run(tmp_path / "other", measures=None)
    _judged(run, -90)
    assert known_front(run / "scene.ply") == -90


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_auto_turns_the_front_to_azimuth_0(
    tmp_path: Path, quarters: int, capsys: pytest.CaptureFixture[str]
) -> None:
    measures = {"rotation_deg": 90.0 * quarters}
    run, out = make_run(tmp_path / "run", measures=measures, turned=quarters), tmp_path / "owl.ply"
    assert main([str(run / "scene.ply"), str(out), "--turn", "auto"]) == 0
    torch.testing.assert_close(load_scene(out).means, balls().means, atol=1e-6, rtol=0)
    turned = f"turned by {-90 * quarters} degrees about the vertical axis\n"
    assert (turned in capsys.readouterr().out) == (quarters > 0)


def test_by_an_angle(tmp_path: Path) -> None:
    scene, out = make_run(tmp_path / "run", scene="ply") / "scene.ply", tmp_path / "owl.ply"
    assert main([str(scene), str(out), "--turn", "-90"]) == 0
    torch.testing.assert_close(load_scene(out).means, balls(3).means, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run/scene.ply", "auto"], r"run: the front of the scene is unknown; give the angle .*"),
        (["broken/scene.ply", "auto"], r"broken/evaluation\.json: cannot be read \(.*\)"),
        (["copy.ply", "auto"], r"copy\.ply: is not the scene of an evaluated or finished run, .*"),
        (["run/scene.ply", "east"], r"--turn: must be degrees or auto, got 'east'; see .*"),
        (["run/scene.ply", "nan"], r"--turn: must be finite, got nan"),
    ],
)
def test_what_is_unknown_is_one_line_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    _judged(make_run(Path("run")), None)
    broken = make_run(Path("broken"), finished=False)
    (broken / EVALUATION).write_text("{")
    Path("copy.ply").write_bytes(Path("run/scene.ply").read_bytes())
    source, angle = arguments
    assert main([source, "out.ply", "--turn", angle]) == 2
    printed = capsys.readouterr()
    assert re.fullmatch(rf"esd_splat: {message}\n", printed.err), printed.err
    assert not Path("out.ply").exists()
