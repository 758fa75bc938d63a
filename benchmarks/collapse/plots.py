"""The page's plots, from rows alone."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.collapse.facts import LOST, losses, lost, prompts_lost, verdict_of
from benchmarks.collapse.plan import Experiment
from benchmarks.collapse.runs import Row
from benchmarks.collapse.stats import measured

MEASURES = {"MI": "MI, nats", "psnr_aligned": "PSNR, dB"}
SHARE = "lost runs, share"
"""Of runs that ended with no face, several faces or one that is too wide."""


def factor(experiment: Experiment, rows: Sequence[Row], path: Path) -> None:
    """What was lost, and two measures, against the settings: a line per prompt, and all together.

    All together are the share of prompts lost, and the mean of the others.
    """
    names = [name for name in experiment.settings if experiment.rows(name, rows)]
    found = [experiment.rows(name, rows) for name in names]
    fig, axes = plt.subplots(1, 3, figsize=(11, 3), constrained_layout=True)
    for prompt in experiment.prompts:
        own = [_lost([r for r in f if r["prompt"] == prompt]) for f in found]
        axes[0].plot(names, own, lw=0.8, marker=".", label=prompt)
    shares = [prompts_lost(f) for f in found]
    middle = [s.count / s.total for s in shares]
    spread = [[m - s.ends[0], s.ends[1] - m] for m, s in zip(middle, shares, strict=True)]
    axes[0].errorbar(names, middle, np.transpose(spread), color="k", lw=2, label="prompts lost")
    axes[0].set_title(SHARE)
    for axis, (measure, title) in zip(axes[1:], MEASURES.items(), strict=True):
        for prompt in experiment.prompts:
            own = [measured([r for r in f if r["prompt"] == prompt], measure) for f in found]
            means = [bar.mean if bar else np.nan for bar in own]
            axis.plot(names, means, lw=0.8, marker=".", label=prompt)
        bars = [measured(f, measure) for f in found]
        at = [i for i, bar in enumerate(bars) if bar]
        known = [bar for bar in bars if bar]
        spread = [[b.mean - b.low for b in known], [b.high - b.mean for b in known]]
        axis.errorbar(at, [b.mean for b in known], spread, color="k", lw=2, label="mean")
        axis.set_title(title)
    for axis in axes:
        axis.tick_params(axis="x", rotation=30)
    axes[0].legend(fontsize=6)
    axes[0].set_ylim(-0.05, 1.05)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def chart(experiment: Experiment, rows: Sequence[Row], path: Path) -> None:
    """MI and losses of every prompt over two factors; settings are named ``row / column``."""
    pairs = [name.split(" / ") for name in experiment.settings]
    downs, across = (list(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    prompts = experiment.prompts
    size = (3 * len(prompts), 0.5 * len(downs) + 1.4)
    fig, axes = plt.subplots(1, len(prompts), figsize=size, constrained_layout=True, squeeze=False)
    for axis, prompt in zip(axes[0], prompts, strict=True):
        grid = np.full((len(downs), len(across)), np.nan)
        ends: dict[tuple[int, int], str] = {}
        for name in experiment.settings:
            down, column = name.split(" / ")
            here = [r for r in experiment.rows(name, rows) if r["prompt"] == prompt]
            if here:
                at = downs.index(down), across.index(column)
                grid[at] = np.mean([r["MI"] for r in here])
                ends[at] = losses(here)
        most = np.log(16)
        axis.imshow(grid, vmin=0, vmax=most, cmap="viridis", aspect="auto")
        for (i, j), end in ends.items():
            text = f"{grid[i, j]:.2f}\n{end}"
            ink = "black" if grid[i, j] > 0.6 * most else "white"
            axis.text(j, i, text, ha="center", va="center", color=ink, fontsize=6)
        axis.set_xticks(range(len(across)), across, fontsize=7)
        axis.set_yticks(range(len(downs)), downs, fontsize=7)
        axis.set_title(prompt, fontsize=9)
    varied = next(iter(experiment.settings.values())).overrides[-2:]
    down, column = (override.split("=")[0] for override in varied)
    fig.supylabel(down, fontsize=8)
    fig.supxlabel(column, fontsize=8)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def frontier(
    final: Experiment, others: Sequence[Experiment], rows: Sequence[Row], path: Path
) -> None:
    """Each way to be lost against recognised: a point a setting, those of ``final`` by name."""

    def points(experiment: Experiment, way: str) -> list[tuple[float, float, str]]:
        found = []
        for name in experiment.settings:
            here = experiment.rows(name, rows)
            if known := measured(here, "recognised"):
                found.append((known.mean, _lost(here, way), name))
        return found

    fig, axes = plt.subplots(
        1, len(LOST), sharex=True, sharey=True, figsize=(11, 4), constrained_layout=True
    )
    for axis, way in zip(axes, LOST, strict=True):
        behind = [point for experiment in others for point in points(experiment, way)]
        named = points(final, way)
        for these, size, colour, label in (
            (behind, 18, "0.6", "the study, on development prompts"),
            (named, 40, "C3", "the earlier table"),
        ):
            x, y = [point[0] for point in these], [point[1] for point in these]
            axis.scatter(x, y, size, color=colour, alpha=0.6, linewidths=0, label=label)
        # Points that are lost in no such run need no name. Those that fall together share a line.
        for at in sorted({point[:2] for point in named if point[1]}):
            names = ", ".join(point[2] for point in named if point[:2] == at)
            left = at[0] > 0.5
            axis.annotate(
                names,
                at,
                xytext=(-6 if left else 6, 5),
                textcoords="offset points",
                ha="right" if left else "left",
                fontsize=7,
            )
        axis.axhline(0.1, color="0.8", lw=0.8, zorder=0)
        axis.axvline(0.9, color="0.8", lw=0.8, zorder=0)
        axis.set_title(way, fontsize=9)
        axis.set(xlabel="recognised", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes[0].set_ylabel("share of runs")
    axes[0].legend(fontsize=7)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def objects(final: Experiment, rows: Sequence[Row], path: Path) -> None:
    """The frontier of every kind of object: lost runs against PSNR, a point a setting.

    Not against ``recognised``, which is 1 almost everywhere.
    """
    kinds = list(dict.fromkeys(prompt.split()[-1] for prompt in final.prompts))
    fig, axes = plt.subplots(
        2,
        -(-len(kinds) // 2),
        sharex=True,
        sharey=True,
        figsize=(11, 5),
        constrained_layout=True,
    )
    for axis, kind in zip(axes.flat, kinds, strict=False):
        for name, mark in zip(final.settings, cycle("ovs^DPX*"), strict=False):
            here = [r for r in final.rows(name, rows) if r["prompt"].split()[-1] == kind]
            if near := measured(here, "psnr_aligned"):
                axis.scatter(near.mean, _lost(here), 40, marker=mark, alpha=0.8, label=name)
        axis.set_title(kind, fontsize=9)
    axes.flat[0].set_ylim(-0.06, 1.06)
    axes.flat[0].legend(fontsize=6)
    fig.supylabel(SHARE, fontsize=8)
    fig.supxlabel("PSNR, dB", fontsize=8)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def _lost(rows: Sequence[Row], way: str = "") -> float:
    """The share of runs that were lost (in one way), or NaN if there are none."""
    found = [verdict_of(row) == way if way else lost(row) for row in rows]
    return float(np.mean(found)) if found else np.nan
