"""Folders of runs that never ran, whose scene shows from which side it is seen."""

import json
from pathlib import Path
from typing import Any

import torch

from esd_splat.formats import EXPORTERS
from esd_splat.scene.gaussians import SH_C0, Gaussians

SIDES = {"red": (1.0, 0, 0), "green": (0, 1.0, 0), "blue": (0, 0, 1.0), "black": (0, 0, 0)}
"""Colours of the balls that cover the middle, seen from azimuth 0, 90, 180 and 270."""


def balls(turned: int = 0) -> Gaussians:
    """A ball on each side; ``turned`` quarters, which is the azimuth that the red one faces."""
    angles = (torch.arange(4) + turned) * torch.pi / 2
    means = 0.3 * torch.stack([angles.sin(), torch.zeros(4), angles.cos()], dim=1)
    return Gaussians(
        means=means,
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(4, 1),
        log_scales=torch.full((4, 3), 0.25).log(),
        opacity_logits=torch.full((4,), 8.0),
        sh0=((torch.tensor([*SIDES.values()]) - 0.5) / SH_C0)[:, None],
        shN=torch.zeros(4, 0, 3),
    )


def make_run(
    folder: Path,
    config: str = "prompt: a red owl\nloss: {name: esd, entropy_weight: 1.0}\nsteps: 500\n",
    *,
    measures: dict[str, Any] | None = None,
    finished: bool = True,
    turned: int = 0,
    scene: str | None = "ply",
) -> Path:
    """Write what a run of ``config`` leaves at step 500, or before."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"# esd_splat 0.1\n# torch 2\n{config}")
    (folder / "metrics.csv").write_text("step,direction\n100,1\n120,0.5\n")
    if finished:
        summary = {"prompt": "a red owl", "steps": 500, "seconds": 61.25, "measures": measures}
        (folder / "summary.json").write_text(json.dumps(summary))
    if scene:
        EXPORTERS[scene]().write(balls(turned), folder / f"scene.{scene}")
    return folder
