"""The rules of the house that a reviewer should not have to remember."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "esd_splat"
MODULES = sorted(PACKAGE.rglob("*.py"))
BESIDE = sorted(p for folder in ("toy", "benchmarks") for p in (ROOT / folder).rglob("*.py"))
MAX_LINES = 300

ROOMS = [  # a module may import from its own room and from any room above it
    {"errors", "types", "plugins"},
    {"files", "jinja", "command", "settings", "cuda_toolkit"},
    {"config_files"},
    {"scene"},
    {"formats"},
    {"init", "teacher"},
    {"distill"},
    {"figurines"},
    {"config"},
    {"run"},
    {"show"},
    {"fit", "export", "report", "compare", "evaluate", "plan", "toy", "doctor"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(ROOMS) for name in names}

DOORS = {  # the only places that may import a heavy third-party package
    "diffusers": {"teacher", "figurines/training"},
    "transformers": {"teacher", "figurines/training", "run/measure/judges"},
    "peft": {"teacher", "distill"},
    "gsplat": {"scene/rasterize", "formats"},
    "plyfile": {"formats"},
    "imageio": {"show"},
    "PIL": {"formats", "show", "figurines/training", "teacher", "toy"},
    "omegaconf": {"settings"},
    "pydantic": {"settings"},
    "yaml": {"settings"},
    "lightning": {"run"},
    "viser": {"show/live"},
    "matplotlib": {"show/pages"},
    "jinja2": {"jinja"},
}

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))


def _place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _imports(path: Path) -> Iterator[str]:
    """The dotted names that ``path`` imports, in any spelling and also inside of functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _our_imports(path: Path) -> Iterator[str]:
    yield from (name for name in _imports(path) if name.split(".")[0] == "esd_splat")


def _against_the_flow(room: str, imported: Iterable[str]) -> list[str]:
    """The dotted names, of those that a module of ``room`` imports, that it must not."""
    allowed = {name for name, level in LEVEL.items() if level < LEVEL[room]}
    return [name for name in imported if name.split(".")[1] not in allowed | {"__version__", room}]


@each_module
def test_imports_follow_the_flow_of_data(path: Path) -> None:
    room = _room(path)
    if room == "__init__":
        return
    assert room in LEVEL, f"{room} has no place yet: give it one in ROOMS, and in the design"
    assert not _against_the_flow(room, _our_imports(path))


@pytest.mark.parametrize(
    ("place", "planted"),
    [
        ("scene/optim.py", "from esd_splat.formats import load_ply"),
        ("init/base.py", "import esd_splat.teacher.base"),
        ("distill/distillation.py", "def step():\n    from esd_splat.config import Config"),
        ("run/trainer.py", "from esd_splat import show"),
        ("errors.py", "from esd_splat.files import expanded"),
    ],
)
def test_a_planted_import_is_found(place: str, planted: str, tmp_path: Path) -> None:
    module = tmp_path / "planted.py"
    module.write_text((PACKAGE / place).read_text(encoding="utf-8") + f"\n\n{planted}\n")
    assert (
        len(_against_the_flow(place.split("/")[0].removesuffix(".py"), _our_imports(module))) == 1
    )


@each_module
def test_heavy_packages_come_in_by_one_door(path: Path) -> None:
    for package in {name.split(".")[0] for name in _imports(path)} & DOORS.keys():
        doors = tuple(DOORS[package])
        assert _place(path).startswith(doors), f"{package} enters only by {doors}"


@each_module
def test_only_measures_and_the_teachers_training_see_the_truth(path: Path) -> None:
    if _room(path) == "figurines" or _place(path).startswith("run/measure/"):
        return
    for name in _our_imports(path):
        assert name.split(".")[1] != "figurines"


@pytest.mark.parametrize("path", [*MODULES, *BESIDE], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_LINES
    assert ast.get_docstring(ast.parse(text)), "every module opens by saying what lives in it"
    wanted = r"^from __future__ import annotations"
    assert not re.search(wanted, text, re.MULTILINE), "pydantic reads field types"


@pytest.mark.parametrize("path", BESIDE, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_stands_beside_the_package_uses_its_public_names(path: Path) -> None:
    for name in _our_imports(path):
        assert not re.search(r"\._[^_]", name), f"{name} is private"


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import esd_splat", {"torch", "numpy", "yaml", *DOORS}),
        ("import esd_splat.settings", {"torch", "pydantic"}),
        ("import esd_splat.fit", DOORS.keys() - {"yaml"} | {"torch"}),
    ],
)
def test_importing_is_light(statement: str, absent: set[str]) -> None:
    code = f"import sys; {statement}; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not absent & set(loaded.stdout.split())
