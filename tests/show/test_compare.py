"""The page that compares runs: what it says of them, and what it refuses."""

import re
from html import escape, unescape
from pathlib import Path

import pytest
import torch

from esd_splat.compare import main
from esd_splat.run.measure import MEASURES as MEANINGS
from esd_splat.show import compare as module
from esd_splat.show.compare import compare
from esd_splat.show.images import write_png
from esd_splat.show.pages import AZIMUTHS, NOTHING
from tests.runs import make_run
from tests.show.pages.pictures import middle, small_frames

MEASURES = {
    **{"IQ": 0.5, "IV": 2.0, "IG": 3.0, "MI": 1.5, "faces": 2, "front_share": 1.25},
    **{"janus": True, "psnr_aligned": 20.0, "recognised": 1.0, "rotation_deg": 90.0},
}
BETTER = {**MEASURES, "faces": 1, "front_share": 0.9, "janus": False, "IQ": 0.1, "IG": None}
CONFIG = (
    "prompt: a red owl\nseed: 0\nsteps: 500\nout: {out}\nloss: {loss}\n"
    "measure: {{views: 16}}\nlog: {{sheet_every: {sheets}}}\n"
)


def _config(loss: str, out: str = "x", sheets: int = 0) -> str:
    return CONFIG.format(loss=loss, out=out, sheets=sheets)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    vsd, esd = _config("{name: vsd}"), _config("{name: esd, entropy_weight: 0.5}", "y")
    return [
        make_run(folder / "vsd", vsd, measures=MEASURES, turned=1),
        make_run(folder / "esd", esd, measures=BETTER),
        make_run(folder / "going", esd.replace("0.5", '"<b>"'), finished=False),
    ]


@pytest.fixture(scope="module")
def page(runs: list[Path]) -> str:
    with small_frames():
        return compare(runs)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes need no picture."""
    monkeypatch.setattr(module, "photograph", lambda scene: ["data:"] * 2 * AZIMUTHS)


def _rows(page: str, heading: str) -> dict[str, list[str]]:
    """The table under ``heading``: its cells as they stand there, by the row's name."""
    table = re.findall(rf"<h2>{heading}</h2>.*?<table>(.*?)</table>", page, re.DOTALL)[0]
    lines = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    cells = [re.findall(r"<t[hd]>(.*?)</t[hd]>", line, re.DOTALL) for line in lines]
    return {unescape(name): more for name, *more in cells}


def test_nothing_comes_from_elsewhere(page: str) -> None:
    for reference in re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', page):
        assert "".join(reference).startswith("data:")
    assert not re.search("https?:", page)


def test_each_scene_is_seen_from_the_front_and_from_all_around(page: str) -> None:
    assert "<h1>a red owl</h1>" in page
    scenes = re.findall(r'<img class="scene"[^>]*src="([^"]*)"', page)
    assert [middle(scene) for scene in scenes] == ["black", "red", "red"], "the first is turned"
    around = _rows(page, "From all around")
    assert around[""] == ["0°", "45°", "90°", "135°", "180°", "225°", "270°", "315°"]
    sides = [re.findall('src="([^"]*)"', cell)[0] for cell in around["(b) esd"][::2]]
    assert [middle(side) for side in sides] == ["red", "green", "blue", "black"]


def test_only_what_differs_is_listed(page: str, runs: list[Path]) -> None:
    settings = _rows(page, "Settings that differ")
    assert settings == {
        "": ["(a) vsd", "(b) esd", "(c) esd"],
        "loss.name": ["vsd", "esd", "esd"],
        "loss.entropy_weight": [NOTHING, "0.5", "&lt;b&gt;"],
        "scene": [str(run / "scene.ply") for run in runs],
    }
    assert "<small>loss.entropy_weight=<wbr>0.5</small>" in page
    assert "<small>unfinished: step 120 of 500</small>" in page


def test_the_best_of_each_measure_is_marked(page: str) -> None:
    measures = _rows(page, "Measures")
    names = [name.split(" ")[0] for name in measures[""]]
    assert names == ["steps", "seconds", "Gaussians", *MEASURES]
    first, second, third = (
        dict(zip(names, measures[run], strict=True)) for run in ("(a) vsd", "(b) esd", "(c) esd")
    )
    assert {name for name in names if "<b>" in first[name]} == set()
    assert {name for name in names if "<b>" in second[name]} == {*("IQ", "faces", "janus")}, (
        "not where both are alike, nor where one is None, nor any rotation or share"
    )
    assert second["janus"] == "<b>no</b>"
    assert first["seconds"] == "61.25"
    assert third["steps"] == "unfinished: step 120 of 500"
    assert third["faces"] == NOTHING
    for name in MEASURES:
        assert f"<dt>{name}:</dt> <dd>{escape(MEANINGS[name].text)}</dd>" in page
    assert "Not measured: (c); only a finished run of one figurine" in page


@pytest.mark.usefixtures("undrawn")
def test_measures_taken_in_different_ways_are_not_compared(tmp_path: Path) -> None:
    config = _config("{name: vsd}")
    folders = [
        make_run(tmp_path / "a", config, measures=MEASURES),
        make_run(tmp_path / "b", config.replace("16", "8"), measures=BETTER),
    ]
    page = compare(folders)
    assert not any("<b>" in cell for row in _rows(page, "Measures").values() for cell in row)
    assert "None is marked as the best, because the runs were measured in different ways" in page


@pytest.mark.usefixtures("undrawn")
def test_one_run_alone_and_another_prompt(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "prompt: <i>owl\nlog: {sheet_every: 100}\n")
    alone = compare([run])
    assert "<h1>&lt;i&gt;owl</h1>" in alone
    assert _rows(alone, "Settings")["scene"] == [str(run / "scene.ply")]
    assert "<h2>In training</h2>" not in alone, "there is no sheet"
    other = make_run(tmp_path / "other", "prompt: a cat\nlog: {sheet_every: 100}\n")
    write_png(torch.zeros(3, 8, 8), other / "contact_sheet.png")
    both = compare([run, other])
    assert "<h1>2 runs</h1>" in both
    assert "<br>&lt;i&gt;owl" in both
    assert both.count("<h2>In training</h2>") == 1


def test_the_command_says_what_it_wrote_and_replaces_only_pages_of_its_own(
    runs: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "new" / "page.html"
    page = f'content="{module.GENERATOR}"'
    monkeypatch.setattr("esd_splat.compare.compare", lambda folders: f"{page} {folders}")
    for runs_given in (runs[:1], runs):
        assert main([*map(str, runs_given), "--out", str(out)]) == 0
        assert capsys.readouterr().out == f"wrote {out} (0.0 MB)\n"
        assert str(runs_given) in out.read_text()


def _mine(folder: Path) -> str:
    (folder / "mine.html").write_text("<p>my own")
    return str(folder / "mine.html")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda good, tmp: [tmp / "none"], "no such folder"),
        (lambda good, tmp: [good, tmp], "not the folder of a run, as it has no config.yaml"),
        (lambda good, tmp: [good, f"{good}/../{good.name}"], "given twice; leave one out"),
        (lambda good, tmp: [good] * 27, "27 runs: a page has at most 26"),
        (lambda good, tmp: [good, make_run(tmp / "a", scene=None)], "no scene to show"),
        (lambda good, tmp: [good, _cut(make_run(tmp / "a"))], "scene.ply"),
        (lambda good, tmp: [good, "--out", tmp], "is a folder; give the name of a page in it"),
        (lambda good, tmp: [good, "--out", _mine(tmp)], "is there and no page of ours"),
        (lambda good, tmp: [good, "--out", f"{_mine(tmp)}/page.html"], "mine.html"),
    ],
)
def test_what_cannot_be_compared_costs_one_line_and_writes_nothing(
    runs: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(argument) for argument in arguments(runs[0], tmp_path)]
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert main(given) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("esd_splat: ")
    assert message in captured.err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def _cut(run: Path) -> Path:
    scene = run / "scene.ply"
    scene.write_bytes(scene.read_bytes()[:-9])
    return run
