"""What the package ships is what its sources give."""

import shutil
import subprocess
from pathlib import Path

import esd_splat.formats
from tests.browser import missing

HERE = Path(__file__).parent


def test_the_script_of_the_page_is_built_from_its_sources(tmp_path: Path) -> None:
    node = shutil.which("node") or missing("needs node")
    if not (HERE / "node_modules" / "esbuild").is_dir():
        missing("needs the viewers: make viewers")
    subprocess.run([node, str(HERE / "build.mjs"), str(tmp_path)], check=True, capture_output=True)
    shipped = Path(esd_splat.formats.__file__).parent / "viewer"
    for name in ("viewer.js", "LICENSES.txt"):
        assert (tmp_path / name).read_bytes() == (shipped / name).read_bytes(), name
