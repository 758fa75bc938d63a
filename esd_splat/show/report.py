"""The report of a run: prompt, measures, pictures, curves and config on one page."""

from pathlib import Path

from esd_splat.errors import EsdSplatError
from esd_splat.files import write_text
from esd_splat.run.folder import DIAGNOSTICS, METRICS, REPORT, SHEET, TURNTABLES
from esd_splat.run.measure import MEASURES
from esd_splat.show.pages import (
    Scenes,
    curves,
    moving_picture,
    page,
    photograph,
    picture,
    read_run,
    read_scene,
)

VIEWER = "scene.html"


def report(folder: Path) -> str:
    """Return the report of the run in ``folder`` as HTML. The run may be unfinished.

    Raises:
        EsdSplatError: If ``folder`` is not the folder of a run, or its numbers are missing or
            broken.
    """
    run = read_run(folder)
    if not run.metrics:
        raise EsdSplatError(
            f"{folder}: the run has no numbers yet; its first checkpoint writes {METRICS}"
        )
    turntables = [folder / name for name in TURNTABLES if (folder / name).exists()]
    return page(
        "report.html.j2",
        title=run.prompt,
        generator="esd_splat.report",
        run=run,
        scenes=Scenes([photograph(read_scene(run))]) if run.scene_file else None,
        turntable=moving_picture(turntables[0]) if turntables else None,
        viewer=VIEWER if (folder / VIEWER).exists() else None,
        sheet=picture(folder / SHEET) if (folder / SHEET).exists() else None,
        meanings=MEASURES,
        curves_of={
            METRICS: curves(run.metrics),
            DIAGNOSTICS: curves(run.diagnoses, lines="t"),
        },
    )


def write_report(folder: Path) -> None:
    """Write the report of the run in ``folder`` into this folder.

    Raises:
        EsdSplatError: For the same reasons as ``report``, or if the file cannot be written.
    """
    write_text(folder / REPORT, report(folder))
