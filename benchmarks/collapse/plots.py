"""The page's plots, from rows alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.collapse.plan import Experiment, Setting
from benchmarks.collapse.runs import Row, of_setting
from benchmarks.collapse.stats import interval

MEASURES = {"janus": "Janus rate", "MI": "MI, nats", "psnr_aligned": "PSNR, dB"}


def by_prompt(rows: Sequence[Row], measure: str) -> dict[str, list[float]]:
    """Values of one measure, for ``interval``."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.get(measure) is not None:
            found.setdefault(row["prompt"], []).append(float(row[measure]))
    return found


def factor(experiment: Experiment, rows: Sequence[Row], path: Path) -> None:
    """Three measures against the experiment's settings: a line per prompt, and their mean."""
    names = list(experiment.settings)
    fig, axes = plt.subplots(1, 3, figsize=(11, 3), constrained_layout=True)
    for axis, (measure, title) in zip(axes, MEASURES.items(), strict=True):
        found = [by_prompt(of_setting(rows, s), measure) for s in experiment.settings.values()]
        for prompt in experiment.prompts:
            means = [float(np.mean(f[prompt])) if prompt in f else np.nan for f in found]
            axis.plot(names, means, lw=0.8, marker=".", label=prompt)
        bars = [interval(f) for f in found]
        at = [i for i, bar in enumerate(bars) if bar]
        known = [bar for bar in bars if bar]
        spread = [[b.mean - b.low for b in known], [b.high - b.mean for b in known]]
        axis.errorbar(at, [b.mean for b in known], spread, color="k", lw=2, label="mean")
        axis.set_title(title)
        axis.tick_params(axis="x", rotation=30)
    axes[0].legend(fontsize=6)
    axes[0].set_ylim(-0.05, 1.05)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def chart(experiment: Experiment, rows: Sequence[Row], path: Path) -> None:
    """MI and Janus rate of every prompt over two factors; settings are named ``row / column``."""
    pairs = [name.split(" / ") for name in experiment.settings]
    downs, across = (list(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    prompts = experiment.prompts
    size = (3 * len(prompts), 0.5 * len(downs) + 1.4)
    fig, axes = plt.subplots(1, len(prompts), figsize=size, constrained_layout=True, squeeze=False)
    for axis, prompt in zip(axes[0], prompts, strict=True):
        grid = np.full((len(downs), len(across)), np.nan)
        janus = grid.copy()
        for name, setting in experiment.settings.items():
            down, column = name.split(" / ")
            here = [r for r in of_setting(rows, setting) if r["prompt"] == prompt]
            if here:
                at = downs.index(down), across.index(column)
                grid[at] = np.mean([r["MI"] for r in here])
                janus[at] = np.mean([r["janus"] for r in here])
        axis.imshow(grid, vmin=0, vmax=np.log(16), cmap="viridis", aspect="auto")
        for i, j in np.argwhere(~np.isnan(grid)):
            text = f"{grid[i, j]:.2f}\n{100 * janus[i, j]:.0f} %"
            axis.text(j, i, text, ha="center", va="center", color="w", fontsize=7)
        axis.set_xticks(range(len(across)), across, fontsize=7)
        axis.set_yticks(range(len(downs)), downs, fontsize=7)
        axis.set_title(prompt, fontsize=9)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def frontier(groups: Mapping[str, Mapping[str, Setting]], rows: Sequence[Row], path: Path) -> None:
    """Janus rate against recognised, a point a setting, a colour a group."""
    fig, axis = plt.subplots(figsize=(6, 4.2), constrained_layout=True)
    for group, settings in groups.items():
        points = []
        for name, setting in settings.items():
            here = of_setting(rows, setting)
            janus, known = (interval(by_prompt(here, m)) for m in ("janus", "recognised"))
            if janus and known:
                points.append((known.mean, janus.mean, name))
        if points:
            axis.scatter([p[0] for p in points], [p[1] for p in points], s=16, label=group)
        if group == "final":
            for x, y, name in points:
                axis.annotate(name, (x, y), fontsize=7, xytext=(4, 3), textcoords="offset points")
    axis.axhline(0.1, color="0.8", lw=0.8, zorder=0)
    axis.axvline(0.9, color="0.8", lw=0.8, zorder=0)
    axis.set(xlabel="recognised", ylabel="Janus rate", ylim=(-0.03, 1.03))
    axis.legend(fontsize=7)
    fig.savefig(path, dpi=110)
    plt.close(fig)
