"""When the teacher judges the scene that it made, and what the summary of the run says of it."""

import json
from pathlib import Path

import pytest
import torch

from esd_splat.config import Config
from esd_splat.errors import PromptError
from esd_splat.fit import fit
from esd_splat.run.measure import judged
from esd_splat.run.measure.judges import Agreement, TeacherJudge
from esd_splat.run.measure.judges import judged as module
from esd_splat.scene.cameras import Cameras
from esd_splat.teacher import StableDiffusion, Teacher
from esd_splat.types import Images
from tests.tiny import IMAGE_SIZE, tiny_config


@pytest.fixture(scope="module")
def teacher(model: Path) -> Teacher:
    return StableDiffusion(model=str(model)).load(torch.device("cpu"), torch.float32)


def _noise(cameras: Cameras, backgrounds: torch.Tensor) -> Images:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(len(cameras), 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)


def _config(model: Path, *more: str) -> Config:
    return tiny_config(model, Path("unused"), *more)


def test_a_long_run_is_judged_and_a_short_one_is_not(
    model: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default, from four views for each of 36 passes for 8 views and 48 pictures: 8064."""
    assert TeacherJudge().passes == 36
    monkeypatch.setattr(module, "agreement", lambda *_: Agreement())
    for keys, asked in {
        ("steps=4031",): False,
        ("steps=4032",): True,
        ("steps=4031", "measure.judge=true"): True,
        ("steps=4032", "measure.judge=false"): False,
        ("steps=2016", "batch=4"): True,
    }.items():
        found = judged(_noise, teacher, _config(model, *keys))
        assert (found is not None) == asked, keys


def test_words_that_the_teacher_lacks_do_not_end_a_finished_run(
    model: Path, teacher: Teacher
) -> None:
    """Its text encoder takes 12 tokens, and the view words do not fit in any more."""
    long = "a smiling red owl , a blue cat"
    found = judged(_noise, teacher, _config(model, f"prompt={long}", "measure.judge=true"))
    assert found is not None
    assert found.keys() == {"judge", "problem"}
    assert "would be cut off" in found["problem"]


def test_without_words_for_figurines_the_agreement_is_not_measured(
    model: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> Agreement:
        raise PromptError("no word for owl")

    monkeypatch.setattr(module, "agreement", unknown)
    found = judged(_noise, teacher, _config(model, "measure.judge=true"))
    assert found is not None
    assert found["agreement"]["measured"] is found["agreement"]["trusted"] is False


def test_a_run_of_a_teacher_with_random_weights_says_not_to_trust_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(model, tmp_path / "run", "measure.judge=true", "export.report=true")
    found = fit(config)["judged"]
    assert found["agreement"]["measured"]
    assert not found["agreement"]["trusted"]
    assert len(found["sides"]) == 8
    said = capsys.readouterr().out
    assert f"{found['verdict']}, as judged by the teacher (kappa " in said
    assert "not to be trusted" in said
    assert "as judged by the teacher" in (tmp_path / "run" / "report.html").read_text()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["judged"] == found
    assert fit(tiny_config(model, tmp_path / "other"), quiet=True)["judged"] is None
