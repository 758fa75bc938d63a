"""The study of the collapse: its plan, its arithmetic, and that its page is what its rows say."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.collapse import runs
from benchmarks.collapse.__main__ import main
from benchmarks.collapse.experiments import EXPERIMENTS, PRESETS, TRIED
from benchmarks.collapse.facts import verdict_of
from benchmarks.collapse.page import (
    SCORES,
    STRIPS,
    clear,
    diagnosis,
    sheets,
    strip,
    table,
    versus,
    write_page,
)
from benchmarks.collapse.plan import (
    DEVELOPMENT,
    DRAWN,
    FINAL,
    FRESH,
    FRESH_COUNT,
    HARD,
    VIEW,
    Experiment,
    Job,
    Past,
    Setting,
)
from benchmarks.collapse.plots import factor, objects
from benchmarks.collapse.runs import HERE, ROWS, carry_out, read_rows
from esd_splat.config import load_config
from esd_splat.figurines import KINDS, parse
from esd_splat.show.contact_sheet import contact_sheet
from esd_splat.show.images import write_png
from esd_splat.show.observers import Pictures


def _row(setting: Setting, prompt: str = "a red owl", seed: int = 0, **found: object) -> runs.Row:
    measures = {"janus": False, "recognised": 1.0, "faces": 1, "front_share": 1.0, "MI": 2.7}
    row = {"setting": setting.label, "keys": setting.keys, "prompt": prompt, "seed": seed}
    return row | measures | {"psnr_aligned": 30.0, "seconds": 1.0} | found


def test_the_study_leaves_the_prompts_of_the_final_table_alone() -> None:
    development = {*DEVELOPMENT, *HARD}
    assert not development & {*FINAL, *FRESH}
    assert not {*FINAL} & {*FRESH}
    assert len({*FRESH}) == FRESH_COUNT
    assert all(parse(prompt) for prompt in FRESH)
    kinds = [parsed[0] for prompt in FINAL if (parsed := parse(prompt))]
    assert sorted(kinds) == sorted([*KINDS, *KINDS])
    chosen = (e for name in PRESETS["study"] for e in [EXPERIMENTS[name]])
    assert all(set(e.prompts) <= development for e in chosen)
    assert {name for preset in PRESETS.values() for name in preset} == {*EXPERIMENTS}


def test_quick_asks_a_part_of_what_full_asks() -> None:
    quick, full = (
        {(str(job.setting.keys), job.prompt, job.seed) for job in EXPERIMENTS[name].jobs()}
        for name in ("quick", "full")
    )
    assert quick < full


def test_a_setting_is_what_differs_from_the_defaults_however_it_is_written() -> None:
    plain = Setting("esd")
    assert plain.keys["loss.marginal"] == "pool"
    assert Setting("esd", ("lora.rank=8", "seed=3", "out=x")).keys == plain.keys
    assert Setting("esd", ("lora.rank=4",)).keys != plain.keys


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda e: e.name)
def test_every_setting_of_an_experiment_loads_and_is_another_one(experiment: Experiment) -> None:
    keys = [json.dumps(s.keys, sort_keys=True) for s in experiment.settings.values()]
    assert len(set(keys)) == len(keys)


def test_what_has_a_row_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting("sds", ("steps=1",))
    jobs = [Job(setting, "a red owl", seed) for seed in (0, 0, 1)]
    asked: list[Job] = []

    class Here:
        """A pool of processes without the processes."""

        def __init__(self, *given: object, **more: object) -> None: ...
        def __enter__(self) -> "Here":
            return self

        def __exit__(self, *error: object) -> None: ...
        def submit(self, run: object, job: Job) -> Job:
            asked.append(job)
            return job

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as it will be set, so that it is set back
    monkeypatch.setattr(runs, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(runs, "as_completed", lambda _: [])
    carry_out(jobs, 2, tmp_path)
    assert asked == [jobs[0], jobs[2]], "the same run twice is one run"
    (tmp_path / ROWS).write_text(json.dumps(_row(setting)) + "\n")
    asked.clear()
    carry_out(jobs, 2, tmp_path)
    assert asked == [jobs[2]]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            "--only quick --settings SDS 'ESD (pol)'",
            "--settings: quick has no 'ESD (pol)'; nearest is 'ESD (pool)'",
        ),
        ("--only quick weight --seeds 0 9", "--seeds: quick, weight has no 9; nearest is 2"),
        (
            "--only beyond --settings as\\ shipped two\\ scenes",
            f"--settings: 'two scenes' can only be run at commit {TRIED}",
        ),
    ],
)
def test_what_cannot_be_run_is_not_passed_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: str,
    says: str,
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["collapse", *shlex.split(asked), "--out", str(out)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert says in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("README.md", "has a README.md and no rows.jsonl; choose another folder"),
        ("rows.jsonl", "cannot be used: Expecting value"),
    ],
)
def test_a_folder_that_is_no_record_stays_as_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    says: str,
) -> None:
    (tmp_path / name).write_text("My notes\n")
    monkeypatch.setattr("sys.argv", ["collapse", "--page", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert says in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["My notes\n"]


def test_a_run_that_breaks_is_a_row_that_counts_as_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "OUTPUTS", tmp_path)
    broken = Setting("sds", ("steps=3", "regularise.opacity=1e6", "optim.opacity_logits=50"))
    row = runs._run(Job(broken, "a red owl", 0))
    assert "vanished" in row["error"]
    assert (row["janus"], row["recognised"]) == (True, 0.0)
    assert verdict_of(row) == "no face"
    fine = runs._run(Job(Setting("sds", ("steps=1", "init.count=50")), "a red owl", 0))
    assert fine["steps"] == 1
    assert fine["janus"] is True
    assert {"date", "machine", "python", "versions", "commit"} <= fine.keys()


def test_a_diagnosed_run_says_how_far_its_scores_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "OUTPUTS", tmp_path)
    short = ("steps=1", "init.count=50", "batch=2")
    row = runs._run(Job(Setting("esd", short), "a red owl", 0, diagnosed=True))
    assert -1 <= row["gap_cosine"] <= 1
    assert row["null_error_teacher"] > 0
    asked = Experiment("x", "Why?", {"ESD": Setting("esd", short)}, ("a red owl",), (0,), True)
    assert f"| {row['gap_cosine']:.3g} [" in table(asked, [row], Path())
    assert all(f"| {row[score]:.3g} [" in table(asked, [row], Path()) for score in SCORES)
    # What no run has is no column.
    older = {name: value for name, value in row.items() if name != "effective_weight"}
    assert "| effective weight |" in table(asked, [row], Path())
    assert "| effective weight |" not in table(asked, [older], Path())


def test_what_was_deleted_keeps_its_rows_and_is_not_run() -> None:
    past = Past("sds", ("loss.name=gone", "loss.start=2"), "abc1234")
    asked = Experiment("x", "Why?", {"gone": past}, ("a red owl",), (0,))
    assert not list(asked.jobs())
    row = _row(Setting("sds")) | {"keys": Setting("sds").keys | past.keys}
    assert row["keys"]["loss.start"] == 2.0
    assert asked.rows("gone", [row, _row(Setting("sds"))]) == [row]
    assert "- gone: `sds loss.name=gone loss.start=2 (commit abc1234)`" in table(
        asked, [row], Path()
    )


def test_a_table_counts_only_its_own_runs() -> None:
    setting = Setting("sds")
    asked = Experiment("x", "Why?", {"SDS": setting}, ("a red owl", "a blue cat"), (0, 1))
    rows = [
        _row(setting, faces=2),
        _row(setting, "a blue cat"),
        _row(setting, seed=7, faces=0),
        _row(setting, "a pink car", faces=0),
        _row(Setting("vsd"), faces=0),
    ]
    text = table(asked, rows, Path())
    assert "| setting | runs | no face | several faces | too wide | prompts lost |" in text
    assert "| SDS | 2 | 0 | 1 | 0 | 1 of 2 [0.0126, 0.987] | 1 [1, 1] |" in text
    assert asked.rows("SDS", rows) == rows[:2]


def test_a_table_says_where_all_lost_runs_are_of_one_prompt() -> None:
    one, two = Setting("sds"), Setting("vsd")
    asked = Experiment("x", "Why?", {"1": one, "2": two}, ("a red owl", "a blue cat"), (0, 1))
    rows = [_row(one, seed=0, faces=0), _row(one, seed=1, front_share=2.0), _row(two, faces=0)]
    assert table(asked, rows, Path()).endswith("lost runs are all of one prompt: 1, 2 (a red owl).")
    both = table(asked, [*rows, _row(two, "a blue cat", faces=2)], Path())
    assert both.endswith("lost runs are all of one prompt: 1 (a red owl).")
    assert "of one prompt" not in table(asked, [_row(one), _row(two)], Path())


@pytest.mark.parametrize("plot", [factor, objects])
def test_a_plot_shows_only_its_own_runs(plot: Callable[..., None], tmp_path: Path) -> None:
    """Rows of other prompts and seeds change nothing; its own do."""
    setting = Setting("sds")
    asked = Experiment("x", "Why?", {"SDS": setting}, ("a red owl",), (0,))
    foreign = [_row(setting, "a pink car", faces=0, MI=0.0), _row(setting, seed=9, MI=0.0)]
    plot(asked, [_row(setting)], tmp_path / "own.png")
    plot(asked, [_row(setting), *foreign], tmp_path / "all.png")
    plot(asked, [_row(setting, faces=0)], tmp_path / "other.png")
    own, both, other = ((tmp_path / f"{n}.png").read_bytes() for n in ("own", "all", "other"))
    assert own == both != other


def test_a_strip_is_the_last_row_of_a_sheet_with_labels_or_without(tmp_path: Path) -> None:
    views = torch.rand(16, 3, VIEW, VIEW, generator=torch.Generator().manual_seed(0))
    labels = ["0°"] * 8, ["step 1", "step 2"]
    earlier, last = views.split(8)
    write_png(contact_sheet([last]), tmp_path / "plain")
    write_png(contact_sheet([earlier, last], *labels), tmp_path / "labelled")
    plain, labelled = (strip(tmp_path / name) for name in ("plain", "labelled"))
    assert plain.tobytes() == labelled.tobytes()
    assert plain.size == (contact_sheet([last]).shape[2], VIEW)
    assert Pictures(load_config("esd", ["prompt=-", *DRAWN])).size == VIEW


def test_pictures_stay_for_as_long_as_the_page_shows_their_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "OUTPUTS", tmp_path / "runs")
    setting = Setting("sds")
    asked = Experiment("x", "Why?", {"SDS": setting}, ("a red owl",), (0, 1))
    first, second = _row(setting, MI=1.0), _row(setting, seed=1, MI=2.0)

    def pictures() -> list[str]:
        return sorted(file.name for file in (tmp_path / STRIPS).iterdir())

    def make(row: runs.Row) -> None:
        folder = runs.folder_of(row)
        folder.mkdir(parents=True)
        write_png(contact_sheet([torch.rand(8, 3, VIEW, VIEW)]), folder / "contact_sheet.png")

    make(first)
    (tmp_path / STRIPS).mkdir()
    text = sheets(asked, [first], tmp_path)
    assert text.count("![]") == 3
    assert len(pictures()) == 1
    shutil.rmtree(tmp_path / "runs")
    assert sheets(asked, [first], tmp_path) == text, "they are on another machine now"
    text = sheets(asked, [first, second], tmp_path)
    assert text.count("![]") == 2  # median and worst; of three runs the page shows two
    assert text.count("No picture here.") == 1
    make(second)
    both = text + sheets(asked, [second], tmp_path)
    clear(tmp_path / STRIPS, both)
    assert [name[-6:] for name in pictures()] == ["s0.png", "s1.png"], "two sheets share a folder"
    clear(tmp_path / STRIPS, sheets(asked, [second], tmp_path))
    assert [name[-6:] for name in pictures()] == ["s1.png"]


def test_methods_are_held_against_the_first_over_the_runs_of_both() -> None:
    asked = EXPERIMENTS["fresh_told"]
    esd, pool = asked.settings["ESD"], asked.settings["ESD (pool)"]
    one, two, three = FRESH[:3]
    rows = [
        *(_row(esd, prompt, psnr_aligned=32.0, seconds=4.0) for prompt in (one, two)),
        _row(pool, one, faces=0, psnr_aligned=30.0),
        _row(pool, two, psnr_aligned=33.0),
        _row(pool, three, faces=0, psnr_aligned=9.0),  # ESD has no such run
    ]
    header, _, first, second, *_ = versus(asked, rows, Path()).splitlines()
    assert header.startswith("| ESD against | lost on | ESD nearer on |")
    assert (
        first
        == "| ESD (paper) | no prompts (not run) | no prompts (not run) | (not run) | (not run) |"
    )
    assert second == (
        "| ESD (pool) | 1 against 0 prompts (p = 1) | 1 against 1 prompts (p = 1) | 0.5 | 0.2 |"
    )


def test_a_diagnosis_is_shown_at_its_end_or_over_its_steps(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text(
        "step,t,camera_error,null_error,effective_weight\n"
        "100,0.5,1,2,\n100,0.9,3,4,0.9\n200,0.5,5,6,\n200,0.9,7,8,1.1\n"
    )
    assert diagnosis(file).splitlines()[0::2] == ["| t | null_error |", "| 0.5 | 6 |"]
    assert diagnosis(file).endswith("| 0.9 | 8 |")
    assert diagnosis(file, 0.9).splitlines()[2:] == [
        "| 100 | 3 | 4 | 0.9 |",
        "| 200 | 7 | 8 | 1.1 |",
    ]


def test_the_page_is_what_the_committed_rows_say(tmp_path: Path) -> None:
    (tmp_path / ROWS).write_bytes((HERE / ROWS).read_bytes())
    shutil.copytree(HERE / STRIPS, tmp_path / STRIPS)
    write_page(tmp_path)
    assert (tmp_path / "README.md").read_text() == (HERE / "README.md").read_text()
    made, here = (
        {p.relative_to(top) for p in top.rglob("*") if p.suffix in (".png", ".md", ".jsonl")}
        for top in (tmp_path, HERE)
    )
    assert made == here - {Path("text.md"), Path("choice.md")}
    for row in read_rows():
        assert set(_row(Setting("sds"))) <= set(row) or "error" in row
