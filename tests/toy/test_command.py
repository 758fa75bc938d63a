"""``esd-splat toy``: what it writes, accepts and refuses."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from esd_splat.errors import OutputError
from esd_splat.toy import main
from esd_splat.toy.results import write

ROOT = Path(__file__).parents[2]
PAPER_FLAGS = """--ndim 1 --dist_0 3. --lambda_coeff 0.7 --seed 2 --total_steps 12 --warmup_steps 3
--batch_size 8 --lr 1e-3 --min_lr 1e-4 --weight_decay 0.1 --scheduler_type cosine --logging_steps 5
--num_samples_vis 9 --device cpu --fps_video 10 --save_video"""
SHORT = ["--total_steps", "20", "--num_samples_vis", "20"]


def _run(folder: Path, *flags: str) -> dict:
    assert main([*SHORT, "--output_dir", str(folder), *flags]) == 0
    return json.loads((folder / "result.json").read_text())


def test_leaves_numbers_picture_and_trajectory(tmp_path: Path) -> None:
    result = _run(tmp_path / "out", "--method", "esd", "--lambda_coeff", "0.5", "--ndim", "3")
    assert len(result["q_mean"]) == len(result["p_mean"]) == 3
    assert [len(row) for row in result["q_cov"]] == [len(row) for row in result["p_cov"]] == [3] * 3
    assert result["lambda_coeff"] == 0.5
    assert result["warning"] is None
    with Image.open(tmp_path / "out" / "final_result.png") as picture:
        assert picture.size == (400, 400)
    with Image.open(tmp_path / "out" / "trajectory.gif") as video:
        assert getattr(video, "n_frames") == 3  # noqa: B009  (steps 0, 10 and 20)
        assert (
            video.info["duration"] == 30
        )  # hundredths of a second: 1000 / 30 ms, as near as can be


def test_compare_is_three_fits_of_one_problem(tmp_path: Path) -> None:
    result = _run(tmp_path / "out", "--compare")
    assert result["fits"].keys() == {"sds", "vsd", "esd"}
    for name, numbers in result["fits"].items():
        alone = _run(tmp_path / name, "--method", name, "--no-save_video")
        assert numbers == {key: alone[key] for key in numbers}
        assert numbers["p_cov"] == result["p_cov"]
    assert result["q_cov"] == result["fits"]["esd"]["q_cov"]
    with Image.open(tmp_path / "out" / "final_result.png") as picture:
        assert picture.size == (1200, 400)


def test_same_flags_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        _run(tmp_path / folder, "--method", "vsd", "--seed", "4")
    for name in ("result.json", "final_result.png", "trajectory.gif"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("paper", [[], ["--paper"]], ids=["ours", "paper"])
def test_accepts_every_flag_of_the_papers_script(tmp_path: Path, paper: list[str]) -> None:
    flags = ["--method", "esd", *PAPER_FLAGS.split()]
    settings = _run(tmp_path / "out", *flags, *paper)["settings"]
    assert settings["save_video"]
    for flag, text in zip(flags[2:-1:2], flags[3:-1:2], strict=True):
        value = settings[flag.removeprefix("--")]
        assert value == type(value)(text), flag


def test_the_papers_way_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "wrong" in _run(tmp_path / "sds", "--paper", "--method", "sds")["warning"].lower()
    assert "WRONG" in capsys.readouterr().out
    result = _run(tmp_path / "esd", "--paper", "--method", "esd", "--lambda_coeff", "0.5")
    assert "not variance preserving" in result["warning"]
    assert result["q_cov_expected"] is None
    assert result["settings"]["lr"] == 0.01


def test_an_earlier_result_is_replaced_whole(tmp_path: Path) -> None:
    _run(tmp_path, "--method", "esd")
    result = _run(tmp_path, "--method", "sds", "--no-save_video")
    assert result["method"] == "sds"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["final_result.png", "result.json"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "--method: sds, vsd or esd is required, or --compare for all three"),
        ("--method edd", "--method: expected one of esd, sds, vsd, got 'edd'"),
        (
            "--method esd --lamda_coeff 1",
            "--lamda_coeff: unknown flag; did you mean --lambda_coeff?",
        ),
        (
            "--method esd --lambda-coeff=1",
            "--lambda-coeff=1: unknown flag; did you mean --lambda_coeff?",
        ),
        ("--method esd now", "now: unknown flag; see --help"),
        ("--method esd --seed 1e3", "--seed: invalid int value: '1e3'"),
        ("--method esd --seed", "--seed: expected one argument"),
        ("--method esd --lambda_coeff nan", "--lambda_coeff: must be in [0, 4], got nan"),
        (
            "--method esd --ndim 0 --lr -1 --lambda_coeff 4.5 --scheduler_type linear",
            "--ndim: must be in [1, 1000], got 0; --lambda_coeff: must be in [0, 4], got 4.5; "
            "--lr: must be above 0, got -1; "
            "--scheduler_type: expected one of cosine, none, got 'linear'",
        ),
        ("--method esd --min_lr 0.06", "--min_lr: must be at most lr = 0.05, got 0.06"),
        ("--method esd --dist_0 inf", "--dist_0: must be in [0, 1000000], got inf"),
        ("--method esd --timestep 1000", "--timestep: must be in [0, 1000), got 1000"),
        (
            "--method esd --paper --timestep 5",
            "--timestep: cannot be given with --paper, which has no timesteps",
        ),
        (
            "--method esd --paper --batch_size 9000",
            "--batch_size: must be at most 8192 with --paper, whose signal scale is a product "
            "over the batch, got 9000",
        ),
        ("--method esd --device tpu", "--device tpu: not available; choose cpu"),
        ("--method esd --device 99", "--device 99: not available; choose cpu"),
        ("--method esd --lr 1e300", "ESD, lambda 1 diverged at step 0: lower --lr"),
    ],
)
def test_refuses_in_one_line_and_writes_nothing(
    flags: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["--output_dir", str(out), *flags.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.removesuffix("\n").startswith(f"esd_splat: {message}")
    assert printed.err.count("\n") == 1
    assert not out.exists()


def _foreign(tmp_path: Path) -> tuple[Path, str]:
    (tmp_path / "thesis.tex").touch()
    return tmp_path, "holds other files (thesis.tex); choose a new or empty folder"


def _a_file(tmp_path: Path) -> tuple[Path, str]:
    (tmp_path / "out").touch()
    return tmp_path / "out", f"{tmp_path / 'out'} is not a folder; choose another"


def _below_a_file(tmp_path: Path) -> tuple[Path, str]:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "out", f"{tmp_path / 'file'} is not a folder; choose another"


def _unwritable(tmp_path: Path) -> tuple[Path, str]:
    return Path(
        "/proc/out"
    ), "/proc cannot be written to (No such file or directory); choose another"


@pytest.mark.parametrize("case", [_foreign, _a_file, _below_a_file, _unwritable])
def test_refuses_a_folder_before_any_work(
    case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, message = case(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["--method", "esd", "--output_dir", str(out)]) == 2
    printed = capsys.readouterr()
    assert printed.err == f"esd_splat: --output_dir {out}: {message}\n"
    assert printed.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@contextmanager
def _small_files_only() -> Iterator[None]:
    """Limit every file to 1000 bytes, as if the disk were full, including the output of pytest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_leaves_nothing_half_done(tmp_path: Path) -> None:
    files = {"final_result.png": b"small", "result.json": b"x" * 2000}
    (tmp_path / "old").mkdir()
    for folder, before in ((tmp_path / "new", {}), (tmp_path / "old", dict.fromkeys(files, b"o"))):
        for name, data in before.items():
            (folder / name).write_bytes(data)
        refused = pytest.raises(OutputError, match=r"result\.json: .*another folder$")
        with _small_files_only(), refused:
            write(folder, files)
        assert {file.name: file.read_bytes() for file in folder.glob("*")} == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("module", ["esd_splat.toy", "toy.gaussians"])
def test_runs_as_a_module(module: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = [*SHORT, "--method", "sds", "--output_dir", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-W", "error", "-m", module, *flags]
    done = subprocess.run(call, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"wrote {out}\n")


def test_help_names_every_flag_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--lambda_coeff FLOAT Weight of the entropy in ESD, in [0, 4]" in text
    assert "--save_video, --no-save_video Whether to write trajectory.gif" in text
