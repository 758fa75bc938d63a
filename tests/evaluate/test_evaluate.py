"""``esd-splat evaluate``: what it finds in scenes whose sides are plain, and what it refuses."""

import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from esd_splat.config import Measure
from esd_splat.evaluate import cli, evaluation, main
from esd_splat.formats import load_scene, save_ply
from esd_splat.run.folder import EVALUATION
from esd_splat.run.measure.judges import JUDGES, agreement
from esd_splat.scene.cameras import Orbit
from esd_splat.scene.gaussians import Gaussians
from tests.evaluate.judges import GREEN, Paint
from tests.runs import make_run

TRUTH = {
    **{"IQ": 0.5, "IV": 2.0, "IG": 3.0, "MI": 1.5, "faces": 2, "front_share": 1.25},
    **{"janus": True, "psnr_aligned": 20.0, "recognised": 1.0, "rotation_deg": 90.0},
}
ONE_FACE = {**TRUTH, "faces": 1, "janus": False}
FAKE = ["--judge", "paint", "--judge-model", "any"]
SDS = "prompt: a red owl\nseed: {seed}\nloss: {{name: sds}}\n"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge without weights, few pictures for it, and small views."""
    monkeypatch.setattr(cli, "agreement", partial(agreement, pictures=8))
    monkeypatch.setitem(JUDGES, "paint", Paint)
    monkeypatch.setattr(evaluation, "SIZE", 64)


def _evaluated(folder: Path, *options: str) -> dict[str, Any]:
    assert main([str(folder), *options]) == 0
    return json.loads((folder / EVALUATION).read_text())


def test_a_run_with_a_truth_and_a_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _evaluated(make_run(tmp_path / "run", measures=TRUTH, turned=1), *FAKE)
    assert found["truth"] == {"verdict": "several faces", **TRUTH}
    colour = found["judged"]["colour"]
    assert (colour["verdict"], colour["sides"][4]) == ("one face", "front")
    assert found["front_deg"] == pytest.approx(90, abs=1)
    agreement = found["judge"]["agreement"]["colour"]
    assert (agreement["measured"], agreement["trusted"]) == (True, False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "judge: colour blind to shape"
    assert re.fullmatch(r"  by colour: kappa -?0\.\d\d on 8 pictures: not to be trusted", lines[1])
    assert "  truth        two faces, recognised from all 16 sides, 20.0 dB from the truth" in lines
    assert "  front        at 90 degrees by the judge, at 90 degrees by the truth" in lines
    (judged,) = (line for line in lines if line.startswith("  judged "))
    assert "one face by colour (not to be trusted)" in judged


def test_without_a_truth_and_without_a_judge(tmp_path: Path, model: Path) -> None:
    """An unfinished run of a teacher that knows no figurines."""
    config = f"prompt: a red owl\nteacher: {{model: {model}}}\n"
    found = _evaluated(make_run(tmp_path / "run", config, finished=False), "--judge", "none")
    assert (found["truth"], found["judged"], found["front_deg"]) == (None, {}, None)
    assert found["judge"] is None


def test_an_unfinished_figurine_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def measured(render: Any, prompt: str, config: Measure, orbit: Orbit) -> dict[str, Any]:
        backgrounds = torch.full((config.views, 3), 0.45)
        seen.append(render(orbit.turntable(config.views, config.elevation), backgrounds))
        return ONE_FACE

    monkeypatch.setattr(evaluation, "measure_scene", measured)
    found = _evaluated(make_run(tmp_path / "run", finished=False), "--judge", "none")
    assert found["truth"] == {"verdict": "one face", **ONE_FACE}
    assert seen[0].shape == (16, 3, 64, 64)
    assert seen[0][4, :, 32, 32].argmax() == GREEN, "the ball at azimuth 90"


def _with(folder: Path, more: Gaussians | None = None, sh: float | None = None) -> Path:
    """Add Gaussians to a run's scene, or make it grey by ``sh`` from -x to x of the camera."""
    scene = load_scene(folder / "scene.ply")
    if more is not None:
        both = zip(vars(scene).values(), vars(more).values(), strict=True)
        scene = Gaussians(*(torch.cat(pair) for pair in both))
    if sh is not None:
        shN = torch.zeros(len(scene), 3, 3)
        shN[:, 2] = sh
        scene = Gaussians(**vars(scene) | {"sh0": torch.zeros(len(scene), 1, 3), "shN": shN})
    save_ply(scene, folder / "scene.ply")
    return folder


def test_consistency_is_of_colours_that_change_with_the_view(tmp_path: Path) -> None:
    plain = _evaluated(
        _with(make_run(tmp_path / "plain", measures=TRUTH), sh=0.0), "--judge", "none"
    )
    shiny = _evaluated(
        _with(make_run(tmp_path / "shiny", measures=TRUTH), sh=0.5), "--judge", "none"
    )
    # Where a Gaussian is seen from azimuth a, it is 0.5 + 0.5 * 0.4886 sin(a) bright, and the next
    # view is 22.5 degrees on. The mean of |sin(a + 22.5) - sin(a)| is 0.25, in a plane.
    level = 0.5 * 0.4886 * 0.25 * math.cos(math.radians(15))
    assert plain["consistency"] < 1e-3
    assert shiny["consistency"] == pytest.approx(level, rel=0.1)
    assert plain["shared"] == shiny["shared"] > 0.3


def test_floaters_are_what_is_beside_the_balls(tmp_path: Path) -> None:
    def found(name: str, place: float) -> float:
        more = load_scene(make_run(tmp_path / f"{name}-more") / "scene.ply")
        more = more.map(lambda value: value[:1])
        more.means[:] = torch.tensor([0.0, place, 0.0])
        more.log_scales[:] = -3.0
        return _evaluated(
            _with(make_run(tmp_path / name, measures=TRUTH), more), "--judge", "none"
        )["floaters"]

    assert found("inside", 0.3) == pytest.approx(0, abs=1e-6)
    assert 0.001 < found("outside", 0.95) < 0.2


def test_several_runs_are_counted_in_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        make_run(tmp_path / f"{loss}-{seed}", config.format(seed=seed), measures=measures)
        for loss, config, measures in (
            ("esd", SDS.replace("sds", "esd"), ONE_FACE),
            ("sds", SDS, TRUTH),
        )
        for seed in (0, 1)
    ]
    file = tmp_path / "all.json"
    command = [*map(str, runs), "--judge", "none", "--json", str(file)]
    assert main(command) == 0
    assert not any((run / EVALUATION).exists() for run in runs)
    lines = capsys.readouterr().out.splitlines()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    assert table[0][3:7] == ["one face", "no face", "several faces", "too wide"]
    assert table[2] == ["(1)", "truth", "2", "2", "0", "0", "0", "0 of 1", "0.000 to 0.975"]
    assert table[3] == ["(2)", "truth", "2", "0", "0", "2", "0", "1 of 1", "0.025 to 1.000"]
    assert any(re.match(r"\(2\) .*loss\.name=sds", line) for line in lines)
    whole = json.loads(file.read_text())
    assert len(whole["runs"]) == 4
    assert whole["table"][1]["prompts lost"] == "1 of 1"
    assert main(command) == 0, "its own file is replaced"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], r"none: no such folder; give the folder of a run, its out="),
        (["plain"], r"plain: not the folder of a run, as it has no config\.yaml"),
        (["one", "./one"], r"one: given twice; leave one out"),
        (["blank"], r"blank: no scene to show; .*"),
        (["one", "other"], r"other: is of the teacher tiny, but one is of figurines; evaluate .*"),
        (["one", "--judge", "paimt"], r"--judge: paimt is not one of .*; did you mean paint\?"),
        (["one", "--judge", "paint"], r"--judge-model: the judge paint needs one; give a .*"),
        (["one", "--judge-model", "x"], r"--judge-model: the judge teacher has no model to choose"),
        (["one", "--json", "plain"], r"--json: plain is a folder; .*"),
        (["one", "--json", "foreign.json"], r"--json: foreign\.json exists and is not of this .*"),
        (["odd", *FAKE], r"prompt: the judge does not know unicorn"),
        ([], r"the following arguments are required: RUN; see .*"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
    model: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("one"))
    make_run(Path("other"), "prompt: a red owl\nteacher: {model: tiny}\n")
    make_run(Path("blank"), scene=None)
    make_run(Path("odd"), f"prompt: a unicorn\nteacher: {{model: {model}}}\n")
    Path("plain").mkdir()
    Path("foreign.json").write_text('{"mine": 1}')
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(rf"esd_splat: {message}\n", printed.err), printed.err
    assert sorted(tmp_path.rglob("*")) == before
    assert Path("foreign.json").read_text() == '{"mine": 1}'
