"""Whole runs on a tiny teacher: what they leave, and that they resume to the same bits."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import plyfile
import pytest
import torch
from typing_extensions import override

from esd_splat.config import load_config
from esd_splat.distill.losses import LOSSES, ScoreDistillation
from esd_splat.errors import BackendError, RunError
from esd_splat.fit import fit
from esd_splat.run.checkpoint import load_checkpoint
from esd_splat.run.record import Record
from esd_splat.scene import kernels
from esd_splat.scene.rasterize import resolve_backend
from esd_splat.settings.schema import section
from esd_splat.types import Latents
from tests.run.small import bytes_of, small_config

ROOT = Path(__file__).parents[2]


def test_what_a_run_leaves(whole: Path) -> None:
    files = {str(p.relative_to(whole)) for p in whole.rglob("*") if p.is_file()}
    assert files == {
        *("config.yaml", "scene.ply", "turntable.mp4", "contact_sheet.png", "metrics.csv"),
        *("summary.json", "checkpoints/last.ckpt"),
    }
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["steps"] == 40
    assert summary["backend"] == resolve_backend("auto", "cpu")
    assert summary["gaussians"] != 30, "the densifier had its say"
    rows = (whole / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", *map(str, range(5, 41, 5))]
    resolved = load_config(whole / "config.yaml")
    assert resolved.steps == 40


def test_scene_files_say_what_they_show(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt and, where it was measured, whether there is more than one face."""
    keys = ("steps=2", "export.formats=[ply,html]", "export.frames=0")
    for faces, said in ((1, "1 face"), (2, "2 faces")):
        found = {"MI": 1.7349, "faces": faces, "front_share": 1.0}
        found |= {"recognised": 1.0, "psnr_aligned": 20.0}
        monkeypatch.setattr(Record, "_measures", lambda *_, found=found: found)
        out = tmp_path / said
        assert fit(small_config(model, out, *keys), quiet=True)["measures"] == found
        comments = plyfile.PlyData.read(str(out / "scene.ply")).comments
        assert comments[1:] == ["a red owl", "MI 1.73 nats", said]
        page = (out / "scene.html").read_text(encoding="utf-8")
        for line in comments[1:]:
            assert f">{line}</" in page


def test_a_run_leaves_its_caller_denormals(whole: Path) -> None:
    assert whole.exists()
    assert sys.float_info.min / 2 > 0


def test_the_same_seed_gives_the_same_bits(model: Path, whole: Path, tmp_path: Path) -> None:
    fit(small_config(model, tmp_path / "again"), quiet=True)
    assert bytes_of(tmp_path / "again") == bytes_of(whole)
    fit(small_config(model, tmp_path / "other", "seed=1"), quiet=True)
    assert bytes_of(tmp_path / "other")["scene.ply"] != bytes_of(whole)["scene.ply"]


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @section
    class Breaks(ScoreDistillation):
        """Turns NaN at the third step."""

        @override
        def direction(self, teacher: Latents) -> Latents:
            calls.append(1)
            return teacher * (float("nan") if len(calls) == 3 else 1.0)

    calls: list[int] = []
    config = small_config(model, tmp_path / "run", "checkpoint_every=1")
    config = dataclasses.replace(config, loss=Breaks())
    with pytest.raises(RunError, match=r"step 3: direction, .*NaN"):
        fit(config, quiet=True)
    state = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert state["run"]["done"] == 2
    assert all(v.isfinite().all() for v in state["run"]["optimizer"]["scene"].values())


def test_cuda_asked_for_and_absent(model: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(BackendError, match="no CUDA device; use device=cpu"):
        fit(small_config(model, tmp_path / "run", "device=cuda"), quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_new_loss_is_one_class_and_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for the teacher and the noise only, so no LoRA is made for it."""

    @section
    class Halfway(ScoreDistillation):
        """Half of SDS."""

        strength: float = 0.5

        @override
        def direction(self, teacher: Latents, noise: Latents) -> Latents:
            return self.strength * (teacher - noise)

    monkeypatch.setitem(LOSSES, "halfway", Halfway)
    attached: list[Any] = []
    monkeypatch.setattr("esd_splat.distill.lora.Lora.attach", lambda *a: attached.append(a))
    config = small_config(model, tmp_path / "run", "steps=2")
    config = dataclasses.replace(config, loss=Halfway(strength=0.1))
    assert fit(config, quiet=True)["steps"] == 2
    assert attached == []


@pytest.mark.slow
def test_the_kernels_of_densification_change_no_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 steps, some 40 edits up to the cap, by our kernels and by PyTorch: the same scene."""
    keys = (
        *("steps=500", "densify.every=12", "densify.window=[0, 1]", "densify.max_count=80"),
        *("loss.camera=noise", "loss.entropy_weight=0"),  # SDS: no LoRA to train
    )
    compiled = kernels.has
    for left in ({"observe", "classify", "grow"}, set()):

        def has(operator: str, tensor: torch.Tensor, left: set[str] = left) -> bool:
            return operator in left and compiled(operator, tensor)

        monkeypatch.setattr(kernels, "has", has)
        out = tmp_path / f"with{len(left)}"
        assert fit(small_config(model, out, *keys), quiet=True)["gaussians"] == 80
    assert bytes_of(tmp_path / "with0") == bytes_of(tmp_path / "with3")
