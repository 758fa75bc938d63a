"""The page of a run: that it holds the numbers, needs nothing else, and what it refuses."""

import base64
import re
import shutil
from html import escape
from pathlib import Path

import pytest
from PIL import Image

from esd_splat.config import load_config
from esd_splat.fit import fit
from esd_splat.report import main
from esd_splat.run import diagnostics
from esd_splat.run.measure import MEASURES
from esd_splat.show.pages import NOTHING
from esd_splat.show.report import report
from tests.runs import make_run
from tests.show.pages.pictures import decoded, small_frames
from tests.tiny import IMAGE_SIZE, save_tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps with a diagnosis at each, and its report."""
    folder = tmp_path_factory.mktemp("run")
    model, out = save_tiny(folder / "model"), folder / "run"
    keys = ["prompt=a red owl", f"teacher.model={model}", f"out={out}", "steps=3", "batch=1"]
    keys += [f"cameras.size={IMAGE_SIZE}", "init.count=20", "lora.rank=1", "export.frames=2"]
    keys += [f"export.size={IMAGE_SIZE}", "log.every=1", "log.diagnose_every=1"]
    with pytest.MonkeyPatch.context() as patch, small_frames():
        for name, value in (("LEVELS", (0.2, 0.7)), ("AZIMUTHS", 4), ("DRAWN", 4)):
            patch.setattr(diagnostics, name, value)
        fit(load_config(None, keys), quiet=True)
    return out


def test_a_run_ends_with_one_page_that_has_everything_and_nothing_from_elsewhere(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<h1>a red owl</h1>" in page
    assert (run / "config.yaml").read_text().splitlines()[0] in page, "the versions"
    assert base64.b64encode((run / "turntable.mp4").read_bytes()).decode() in page
    sheet = re.findall(r'<img alt="from all around" src="([^"]*)"', page)
    with Image.open(run / "contact_sheet.png") as image:
        assert [decoded(address).size for address in sheet] == [image.size]
    assert page.count('<img class="scene"') == 1
    for name in ("direction", "gaussians", "camera_error", "gap_cosine", "view_information"):
        assert f">{name}<" in page
    assert ">t = 0.2<" in page
    for reference in re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', page):
        assert "".join(reference).startswith(("#", "data:"))
    with small_frames():
        assert main([str(run)]) == 0
    assert capsys.readouterr().out == f"wrote {run / 'report.html'}\n"
    assert page == (run / "report.html").read_text(), "the same numbers give the same page"


def test_the_viewer_beside_the_page_is_shown_in_it(tmp_path: Path) -> None:
    """It stays a file of its own: within the page it would have no address, and not start."""
    run = make_run(tmp_path / "run", scene=None)
    assert "<iframe" not in report(run)
    (run / "scene.html").write_text("a viewer")
    assert '<iframe src="scene.html"' in report(run)


def test_a_gif_takes_the_place_of_a_video(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", scene=None)
    (run / "turntable.gif").write_bytes(b"GIF89a")
    page = report(run)
    assert "data:image/gif;base64," in page
    assert "<video" not in page


def test_beside_each_measure_stands_what_it_means(tmp_path: Path) -> None:
    """Of a run by another version there may be measures that this one does not know."""
    measures = {"janus": False, "psnr_aligned": 31.4159, "IG": None, "charm": 7}
    page = report(make_run(tmp_path / "run", measures=measures, scene=None))
    shown = {"janus": "no", "psnr_aligned": "31.42", "IG": NOTHING, "charm": "7"}
    for name, number in shown.items():
        meaning = MEASURES[name].text if name in MEASURES else ""
        line = f'<tr><th>{name}</th><td>{number}</td><td class="note">{escape(meaning)}</td></tr>'
        assert line in page


def test_an_unfinished_run_and_words_that_look_like_html(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "prompt: <b>&\nsteps: 500", finished=False)
    with small_frames():
        assert 'alt="&lt;b&gt;&amp;, from the front"' in report(run)
    (run / "scene.ply").unlink()
    page = report(run)
    assert "unfinished: step 120 of 500" in page
    assert "<h1>&lt;b&gt;&amp;</h1>" in page
    assert "prompt: &lt;b&gt;&amp;" in page
    assert "No scene file that can be read, so there is nothing to turn." in page
    assert "<h2>Measures" not in page
    assert page.count("<svg") == 1
    assert "<img" not in page


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "no such folder; give the folder of a run, its out="),
        (lambda run: (run / "metrics.csv").unlink(), "no numbers yet; its first checkpoint"),
        (lambda run: (run / "metrics.csv").write_text("step,x\n"), "no numbers yet"),
        (lambda run: (run / "contact_sheet.png").write_bytes(b"GIF"), "cannot be shown: no PNG"),
        (lambda run: (run / "scene.ply").write_bytes(b"ply"), "scene.ply: "),
    ],
)
def test_what_is_no_run_costs_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil, message: str
) -> None:
    good, run = make_run(tmp_path / "good", scene=None), make_run(tmp_path / "run", scene=None)
    spoil(run)
    assert main([str(good), str(run)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"esd_splat: {run}")
    assert message in captured.err
    assert not (good / "report.html").exists()


def test_no_run_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "required: RUN; see python -m esd_splat.report --help\n" in capsys.readouterr().err
