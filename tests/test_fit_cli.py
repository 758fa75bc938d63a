"""The command line: what it prints, where, and with which status it ends."""

import inspect
import pickle
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import esd_splat
import esd_splat.run
from esd_splat.config import Config, load_config
from esd_splat.errors import RunError
from esd_splat.fit import main
from esd_splat.run.observer import Observer
from esd_splat.settings import load

PROMPT = "prompt=a red owl"
Asked = tuple[Config, bool, set[str]]
"""A config, whether to be quiet, and the names of the observers."""


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """What the trainer was asked to run, by a stand-in that runs nothing."""
    asked: list[Asked] = []

    def run(
        config: Config, observers: Sequence[Observer], quiet: bool, until: int | None
    ) -> dict[str, Any]:
        assert until is None
        asked.append((config, quiet, {type(observer).__name__ for observer in observers}))
        if config.prompt == "nan":
            raise RunError("step 7: the loss is NaN; lower optim.means")
        if config.prompt == "ctrl-c":
            raise KeyboardInterrupt
        return {"steps": config.steps}

    trainer: Any = ModuleType("esd_splat.run.trainer")
    trainer.run = run
    monkeypatch.setitem(sys.modules, "esd_splat.run.trainer", trainer)
    monkeypatch.setattr(esd_splat.run, "trainer", trainer, raising=False)
    return asked


def python(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )


def test_a_run(runs: list[Asked], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "esd", PROMPT, "steps=3"]) == 0
    assert main([PROMPT, "--quiet", "seed=4"]) == 0
    (first, loud, _), (second, quiet, _) = runs
    assert (first, loud) == (load_config("esd", [PROMPT, "steps=3"]), False)
    assert (second.seed, quiet) == (4, True)
    assert capsys.readouterr() == ("", "")


def test_a_run_is_accompanied_by_what_it_asks_for(
    runs: list[Asked],
) -> None:
    assert main([PROMPT]) == 0
    assert main([PROMPT, "view=true", "export.report=false"]) == 0
    assert [observers for _, _, observers in runs] == [{"Pictures", "Report"}, {"Pictures", "View"}]


def test_options_stand_anywhere(runs: list[Asked]) -> None:
    assert main([PROMPT, "--config", "sds", "steps=3"]) == 0
    assert main([PROMPT, "steps=3", "--config=sds"]) == 0
    assert main(["-c", "sds", PROMPT, "steps=3"]) == 0
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("key", ["lora.rank=4", "particle.rank=4"])
def test_keys_of_a_lora_are_refused_where_the_loss_has_none(
    key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file may hold them, as here, since its loss can be overridden."""
    assert main(["--config", "esd", PROMPT, "loss=sds", key]) == 2
    assert capsys.readouterr().err == (
        "esd_splat: esd: 1 problem\n"
        f"  {key.partition('=')[0]}: sets a LoRA and this loss trains none; use a loss with a "
        "LoRA, such as loss=vsd\n"
    )
    assert main(["--config", "esd", PROMPT, key, "--print-config"]) == 0
    assert main(["--config", "esd", PROMPT, "loss=sds", "--print-config"]) == 0


def test_problems_are_one_block_on_stderr_and_nothing_runs(
    runs: list[Asked],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    request = ["--config", "configs/esd.yaml", "loss.entropy_wieght=0.3", "steps=0", "--foo"]
    assert main(request) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "esd_splat: configs/esd.yaml: 4 problems\n"
        "  --foo: unknown option; settings are given as key=value, without dashes\n"
        "  loss.entropy_wieght: unknown key; did you mean 'loss.entropy_weight'?\n"
        "  steps: must be at least 1, got 0\n"
        "  prompt: is required; give it as prompt=...\n"
    )
    assert not runs
    assert not list(tmp_path.iterdir())


def test_errors_of_a_run_are_one_line(
    runs: list[Asked], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prompt=nan"]) == 2
    assert capsys.readouterr().err == "esd_splat: step 7: the loss is NaN; lower optim.means\n"


def test_ctrl_c_says_how_to_go_on(runs: list[Asked], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompt=ctrl-c"]) == 130
    message = "esd_splat: interrupted; the same command with resume=true, not overwrite, goes on\n"
    assert capsys.readouterr().err == message


def test_an_option_without_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([PROMPT, "--config"]) == 2
    message = "--config/-c: expected one argument; see python -m esd_splat.fit --help\n"
    assert capsys.readouterr().err == f"esd_splat: {message}"


def test_two_configs(runs: list[Asked], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "esd", PROMPT, "-c", "sds"]) == 2
    assert capsys.readouterr().err == (
        "esd_splat: --config: is given 2 times (esd, sds); give one\n"
    )
    assert not runs


def test_ctrl_c_while_torch_is_loaded() -> None:
    code = """import runpy, sys
class Interrupted:
    def find_spec(self, name, *rest):
        if name == "torch":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
runpy.run_module('esd_splat.fit', run_name='__main__')"""
    done = python("-c", code, PROMPT)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("esd_splat: interrupted")
    assert done.stderr.count("\n") == 1


def test_print_config_stops_before_the_run_and_can_be_read_back(
    runs: list[Asked], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", "esd", "prompt=2001: a cat", "out=null", "--print-config"]) == 0
    text = capsys.readouterr().out
    assert load(Config, text) == load_config("esd", ["prompt=2001: a cat"])
    assert not runs


def test_print_config_checks_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-config", PROMPT, "steps=0"]) == 2
    assert capsys.readouterr().out == ""


def test_help_tells_options_keys_and_configs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help", "steps=0"]) == 0
    text = capsys.readouterr().out
    for word in (
        "--print-config",
        "esd_paper, esd_pool, esd_sd, mvdream, sds",
        "loss.entropy_weight",
        "cameras.size",
    ):
        assert word in text
    assert max(map(len, text.splitlines())) <= 160


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{esd_splat.__version__}\n"


def test_the_module_runs_from_any_folder(tmp_path: Path) -> None:
    root = str(Path(__file__).parent.parent)
    code = f"import sys, runpy; sys.path.insert(0, {root!r}); "
    code += "runpy.run_module('esd_splat.fit', run_name='__main__')"
    done = python("-W", "error", "-c", code, "steps=0", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("esd_splat: command line: 2 problems\n")


@pytest.mark.parametrize(
    "imports",
    [
        "from esd_splat import fit",
        "import esd_splat.fit; from esd_splat import fit",
        "import esd_splat; fit = esd_splat.fit",
    ],
)
def test_fit_is_a_function_whatever_was_imported_first(imports: str) -> None:
    code = f"""{imports}
import sys, types, esd_splat, esd_splat.run
trainer = types.ModuleType("esd_splat.run.trainer")
trainer.run = lambda config, observers, quiet, until: (config, quiet)
sys.modules["esd_splat.run.trainer"] = esd_splat.run.trainer = trainer
config = esd_splat.load_config(None, ["prompt=a red owl"])
assert fit(config, quiet=True) == (config, True)
import esd_splat.fit as module
assert module.main and callable(esd_splat.fit)
"""
    done = python("-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr


def test_fit_is_used_as_the_function_of_its_module_s_name() -> None:
    assert pickle.loads(pickle.dumps(esd_splat.fit)) is esd_splat.fit
    function = import_module("esd_splat.fit").fit
    assert inspect.signature(esd_splat.fit) == inspect.signature(function)


def test_every_public_name_is_there() -> None:
    for name in esd_splat.__all__:
        assert callable(getattr(esd_splat, name)), name
    assert set(esd_splat.__all__) <= set(dir(esd_splat))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = esd_splat.nonsense
