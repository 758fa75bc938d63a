"""The page of a run: that it holds the numbers, needs nothing else, and what it refuses."""

import base64
import re
import shutil
from pathlib import Path

import pytest

from esd_splat import diagnostics, trainer
from esd_splat.config import load_config
from esd_splat.report import curves, main, report
from tests.tiny import IMAGE_SIZE, save_tiny


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps with a diagnosis at each."""
    folder = tmp_path_factory.mktemp("run")
    model, out = save_tiny(folder / "model"), folder / "run"
    keys = ["prompt=a red owl", f"teacher.model={model}", f"out={out}", "steps=3", "batch=1"]
    keys += [f"cameras.size={IMAGE_SIZE}", "init.count=20", "particle.rank=1", "export.frames=0"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("LEVELS", (0.2, 0.7)), ("AZIMUTHS", 4), ("DRAWN", 4)):
            patch.setattr(diagnostics, name, value)
        trainer.run(load_config(None, [*keys, "log.every=1", "log.diagnose_every=1"]), quiet=True)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(finished, tmp_path / "run")


def test_one_page_with_everything_and_nothing_from_elsewhere(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run)]) == 0
    assert capsys.readouterr().out == f"wrote {run / 'report.html'}\n"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<h1>a red owl</h1>" in page
    assert (run / "config.yaml").read_text().splitlines()[0] in page, "the versions"
    assert base64.b64encode((run / "contact_sheet.png").read_bytes()).decode() in page
    for name in ("direction", "gaussians", "camera_error", "gap_cosine", "view_information"):
        assert f">{name}<" in page
    assert ">t = 0.2<" in page
    assert page.count("<svg") == page.count("</svg>") == 2
    for reference in re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', page):
        assert "".join(reference).startswith(("#", "data:"))
    assert page == report(run), "the same numbers give the same page"


def test_curves_hold_the_numbers_and_pass_over_what_is_missing() -> None:
    """At steps 0, 1 and 3 the curve is at 0, 2 and 3: the second step of x is a third as steep."""
    rows = [{"step": 0.0, "y": 0.0}, {"step": 1.0, "y": 2.0}, {"step": 2.0}]
    svg = curves([*rows, {"step": 3.0, "y": 3.0}])
    (path,) = re.findall(r'<path d="M ([^"]*)" clip-path[^>]*stroke-linecap: square', svg)
    (x0, y0), (x1, y1), (x2, y2) = (map(float, p.split()) for p in path.strip().split("\nL "))
    assert (x2 - x1) / (x1 - x0) == pytest.approx(2, rel=1e-4)
    assert (y2 - y1) / (y1 - y0) == pytest.approx(0.5, rel=1e-4)
    assert y1 < y0, "up is down in SVG"
    assert "t =" not in svg


def test_an_unfinished_run_and_words_that_look_like_html(run: Path) -> None:
    for name in ("summary.json", "diagnostics.csv", "contact_sheet.png"):
        (run / name).unlink()
    (run / "config.yaml").write_text("prompt: <b>&")
    page = report(run)
    assert "Unfinished: step 3." in page
    assert "prompt: &lt;b&gt;&amp;" in page
    assert page.count("<svg") == 1
    assert "<img" not in page


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: shutil.rmtree(run), "no such folder; give the folder of a run, its out="),
        (lambda run: (run / "config.yaml").unlink(), "not the folder of a run, as it has no"),
        (lambda run: (run / "metrics.csv").unlink(), "no numbers yet; its first checkpoint"),
        (lambda run: (run / "metrics.csv").write_text("step,x\n"), "no numbers yet"),
        (lambda run: (run / "metrics.csv").write_text("step,x\n1,a\n"), "not a table of numbers"),
        (lambda run: (run / "metrics.csv").write_text("step\n1,2\n"), "not a table of numbers"),
        (lambda run: (run / "metrics.csv").write_text("x\n1\n"), "numbers over steps"),
        (lambda run: (run / "diagnostics.csv").write_text("step,x\n1,2\n"), "of diagnoses"),
        (lambda run: (run / "metrics.csv").write_bytes(b"\xff"), "is not text in UTF-8"),
        (lambda run: (run / "summary.json").write_text("{"), "not a summary"),
    ],
)
def test_what_is_no_run_costs_one_line_and_writes_nothing(
    run: Path, finished: Path, capsys: pytest.CaptureFixture[str], spoil, message: str
) -> None:
    spoil(run)
    assert main([str(finished), str(run)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"esd_splat: {run}")
    assert message in captured.err
    assert not (finished / "report.html").exists()


def test_no_run_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "RUN" in capsys.readouterr().err
