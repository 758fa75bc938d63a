"""``esd-splat evaluate``: reads runs, measures their scenes, and prints what was found."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from esd_splat import __version__, command
from esd_splat.config import load_config
from esd_splat.errors import EsdSplatError, OutputError, PromptError, UsageError
from esd_splat.evaluate.evaluation import GENERATOR, PICTURES, Subject, evaluate, teacher_of
from esd_splat.evaluate.table import (
    HEADINGS,
    Row,
    aligned,
    comparisons,
    settings_of,
    tabulate,
    verdicts,
)
from esd_splat.evaluate.words import in_lines, of_judge
from esd_splat.files import output_error, write_text
from esd_splat.run.folder import CONFIG, EVALUATION
from esd_splat.run.measure.judges import JUDGES, UNMEASURED, Agreement, Judge, agreement
from esd_splat.run.measure.judges.agreement import Photographer
from esd_splat.run.trainer import DTYPES
from esd_splat.show.pages import read_runs, read_scene

NO_JUDGE = "none"
DESCRIPTION = f"""\
Measures the finished or interrupted scene of each RUN from all around: the faces that a judge
finds, how well neighbouring views agree, what floats beside the object, and where its front is.
Writes {EVALUATION} into each folder. Several runs are counted in a table by setting."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status, see ``command.run``."""
    return command.run(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    load = _judge(arguments.judge, arguments.judge_model)
    if arguments.json is not None:
        _refuse_foreign(arguments.json)
    subjects = _subjects(arguments.runs)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    judge = load(subjects[0], device) if load else None
    agreeing = {}
    if judge:
        for subject in subjects:
            judge.check(subject.config.prompt)
        agreeing = {name: _agreement(judge, taken) for name, taken in PICTURES.items()}
        print("\n".join(of_judge(judge, agreeing)), flush=True)
    results = []
    for subject in subjects:
        result = evaluate(subject, judge, device)
        result["judge"] = _described(judge, agreeing)
        results.append(result)
        print("\n".join(in_lines(result, subject)), flush=True)
        if arguments.json is None:
            write_text(subject.run.folder / EVALUATION, json.dumps(result, indent=1) + "\n")
    settings, legend = settings_of([subject.run for subject in subjects])
    prompts = [subject.config.prompt for subject in subjects]
    rows = tabulate(settings, prompts, [verdicts(result) for result in results])
    if len(subjects) > 1:
        print("\n".join(["", *legend, *_table(rows)]))
    if arguments.json is not None:
        whole = {"generator": GENERATOR, "version": __version__, "runs": results}
        whole["settings"] = legend
        whole["table"] = [dict(zip(HEADINGS, row.cells, strict=True)) for row in rows]
        write_text(arguments.json, json.dumps(whole, indent=1) + "\n")


def _parser() -> command.Parser:
    parser = command.Parser(
        prog=command.prog("evaluate"), description=DESCRIPTION, allow_abbrev=False
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    names = ", ".join([*sorted(JUDGES), NO_JUDGE])
    add("--judge", default="teacher", metavar="NAME", help=f"{names}; default: %(default)s")
    add("--judge-model", metavar="MODEL", help="folder or hub id of the judge's model")
    add(
        "--json",
        type=Path,
        metavar="FILE",
        help=f"write all results to FILE, and no {EVALUATION} into the folders",
    )
    return parser


def _judge(name: str, model: str | None) -> Callable[[Subject, torch.device], Judge] | None:
    """Return what loads the judge of a teacher, or ``None`` if no judge was asked for.

    Raises:
        UsageError: There is no such judge, or it takes no model or needs one.
    """
    if name not in JUDGES and name != NO_JUDGE:
        known = [*sorted(JUDGES), NO_JUDGE]
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--judge: {name} is not one of {', '.join(known)}{hint}")
    kind = JUDGES.get(name)
    fields = {field.name: field for field in dataclasses.fields(kind)} if kind else {}  # pyright: ignore[reportArgumentType]
    if model is not None and "model" not in fields:
        raise UsageError(f"--judge-model: the judge {name} has no model to choose")
    if kind is None:
        return None
    if model is None and "model" in fields and fields["model"].default in ("", dataclasses.MISSING):
        raise UsageError(f"--judge-model: the judge {name} needs one; give a folder or a hub id")
    config = kind(**({} if model is None else {"model": model}))

    def load(subject: Subject, device: torch.device) -> Judge:
        teacher = subject.config.teacher
        teacher.check({"prompt": subject.config.prompt})
        precision = "32" if device.type == "cpu" else subject.config.precision
        loaded = teacher.load(device, DTYPES[precision], subject.config.memory)
        return config.load(loaded, teacher)

    return load


def _subjects(folders: Sequence[Path]) -> list[Subject]:
    """Read all runs.

    Raises:
        EsdSplatError: A folder is given twice, is no run, has no scene or an invalid config; or the
            teachers differ.
    """
    runs = read_runs(folders)
    subjects = [Subject(run, load_config(run.folder / CONFIG), read_scene(run)) for run in runs]
    teachers = [teacher_of(subject.config) for subject in subjects]
    for subject, teacher in zip(subjects, teachers, strict=True):
        if teacher != teachers[0]:
            raise EsdSplatError(
                f"{subject.run.folder}: is of the teacher {teacher}, but {folders[0]} is of "
                f"{teachers[0]}; evaluate runs of different teachers one teacher at a time"
            )
    return subjects


def _agreement(judge: Judge, photographer: Photographer) -> Agreement:
    try:
        return agreement(judge, photographer=photographer)
    except PromptError:  # a teacher whose vocabulary has no figurines
        return UNMEASURED


def _table(rows: Sequence[Row]) -> list[str]:
    """Return the table and what stands below it."""
    if not rows:
        return ["no verdict on any run: the truth is not known, and there was no judge"]
    return [
        aligned([HEADINGS, *(row.cells for row in rows)]),
        "A prompt is lost if at least half of its runs have no face, several faces or one that is "
        "too wide.",
        "The interval is of the share of prompts lost (Clopper-Pearson).",
        *comparisons(rows),
    ]


def _described(judge: Judge | None, agreeing: Mapping[str, Agreement]) -> dict[str, Any] | None:
    """Return the judge and its agreement as they stand in a file."""
    if judge is None:
        return None
    found = {name: what.summary() for name, what in agreeing.items()}
    return {"name": judge.name, "note": judge.note, "agreement": found}


def _refuse_foreign(path: Path) -> None:
    """Refuse to replace a file that this command did not write."""
    try:
        if path.is_dir():
            raise OutputError(f"--json: {path} is a folder; give the name of a file in it")
        if path.exists() and f'"{GENERATOR}"' not in path.read_text(errors="replace")[:100]:
            raise OutputError(f"--json: {path} exists and is not of this command; choose another")
    except OSError as error:
        raise output_error(path, error) from error
