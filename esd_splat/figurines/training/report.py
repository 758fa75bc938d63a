"""Measure a trained teacher: ``python -m esd_splat.figurines.training.report --model FOLDER``.

Samples images, recognises which figurine and which side each shows, and writes
``measured.json``, ``samples.png`` and ``README.md`` beside the weights.
"""

import argparse
import datetime
import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from esd_splat import command
from esd_splat.figurines import COLOURS, HARD_KINDS, HELD_OUT, KINDS, caption
from esd_splat.figurines.training.data import PAIRS, draw_azimuths, photograph, view_of
from esd_splat.figurines.training.looks import Looker, Looks
from esd_splat.figurines.training.sample import Sampler
from esd_splat.files import atomic_path, write_text
from esd_splat.jinja import fill
from esd_splat.scene.cameras import Orbit, wrap_deg
from esd_splat.scene.denormals import denormals_flushed
from esd_splat.types import Images

PROMPTS = [(kind, colour) for kind in KINDS for colour in COLOURS]
VIEWS = ("front", "side", "back")
BIN_DEG = 30
"""Width in degrees of the bins of the pose histogram. The first is centred on the front."""
PAGE = Path(__file__).parent / "page.md.j2"
"""The template of the ``README.md`` beside the weights."""
CHECKED = 400
"""The number of true photographs that show how often the judge itself is wrong."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the results, and return the exit status. See ``command.run``."""
    return command.run(lambda: _main(argv), "train_report")


@denormals_flushed()
def _main(argv: Sequence[str] | None) -> None:
    """Measure, and write the results beside the weights."""
    parser = command.Parser(
        prog="python -m esd_splat.figurines.training.report", description=__doc__
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder written by train")
    parser.add_argument("--samples", type=int, default=16, help="per prompt and guidance scale")
    parser.add_argument("--guidance", type=float, default=3.0, help="scale of the guided samples")
    parser.add_argument("--steps", type=int, default=25, help="DDIM steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    _report(args, shlex.join(sys.argv[1:] if argv is None else argv))


def _report(args: argparse.Namespace, arguments: str) -> None:
    started = time.time()
    sampler = Sampler(args.model, args.steps, args.batch, args.device)
    looker = Looker(Orbit())
    guided, grid = recognition(sampler, looker, args.samples, args.guidance, args.seed)
    print(f"guidance {args.guidance:g}: recognised {guided['recognised']:.3f}", flush=True)
    plain, looks, asked = unguided(sampler, looker, args.samples, args.seed + 1)
    print(f"guidance 1: recognised {plain['recognised']:.3f}", flush=True)
    few = max(1, args.samples // 8)
    measured: dict[str, Any] = {
        "command": f"python -m esd_splat.figurines.training.report {arguments}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, torch {torch.__version__}, "
        f"diffusers {diffusers.__version__}",
        "samples_per_prompt": args.samples,
        "steps": args.steps,
        "seed": args.seed,
        "recipe": recipe_of(args.model),
        "judge": judge_the_judge(looker, CHECKED, args.seed + 2),
        "guided": guided,
        "unguided": plain,
        "poses": poses(looks, asked, recipe_of(args.model)["front_share"]),
        "view_words": {
            f"{scale:g}": view_words(sampler, looker, few, scale, args.seed + 3)
            for scale in dict.fromkeys((args.guidance, 1.0))
        },
    }
    measured["seconds"] = round(time.time() - started)
    write_text(args.model / "measured.json", json.dumps(measured, indent=1) + "\n")
    write_text(args.model / "README.md", fill(PAGE, **measured))
    _write_grid(grid, args.model / "samples.png")
    print(f"wrote {args.model}: README.md, measured.json, samples.png")


def recognition(
    sampler: Sampler, looker: Looker, samples: int, guidance_scale: float, seed: int
) -> tuple[dict[str, Any], Images]:
    """Measure how often images show what their prompt says. Also returns one image per prompt."""
    images, asked = _draw_all(sampler, samples, guidance_scale, seed)
    return _recognised(looker.look(images), asked, guidance_scale), images[: len(PROMPTS)]


def unguided(
    sampler: Sampler, looker: Looker, samples: int, seed: int
) -> tuple[dict[str, Any], Looks, Int[Tensor, " n"]]:
    """Measure recognition at guidance 1. Also returns the looks and the indices of the prompts."""
    images, asked = _draw_all(sampler, samples, 1.0, seed)
    looks = looker.look(images)
    return _recognised(looks, asked, 1.0), looks, asked


def poses(looks: Looks, asked: Int[Tensor, " n"], share: float) -> dict[str, Any]:
    """Compare the azimuths of samples without a view word to those of the training photographs.

    Args:
        looks: from samples at guidance 1, which follow the distribution that the teacher learned.
        asked: index into ``PROMPTS`` of each sample.
        share: the share of the training photographs within 45 degrees of the front.
    """
    generator = torch.Generator().manual_seed(0)
    training = histogram(draw_azimuths(1_000_000, share, generator))
    kinds = asked // len(COLOURS)

    def apart(azimuth_deg: Tensor) -> float:
        return total_variation(histogram(azimuth_deg), training)

    def chance(count: int) -> float:
        draws = [apart(draw_azimuths(count, share, generator)) for _ in range(50)]
        return sum(draws) / len(draws)

    each = {kind: looks.azimuth_deg[kinds == k] for k, kind in enumerate(KINDS)}
    return {
        "bin_centres_deg": list(range(0, 360, BIN_DEG)),
        "training": _rounded(training),
        "drawn": _rounded(histogram(looks.azimuth_deg)),
        "total_variation": round(apart(looks.azimuth_deg), 4),
        "total_variation_by_chance": round(chance(len(asked)), 4),
        "within_45_of_front": round(_near_front(looks.azimuth_deg), 4),
        "within_45_of_front_in_training": share,
        "kinds": {
            kind: {
                "drawn": _rounded(histogram(azimuth)),
                "total_variation": round(apart(azimuth), 4),
                "within_45_of_front": round(_near_front(azimuth), 4),
            }
            for kind, azimuth in each.items()
        },
        "total_variation_by_chance_per_kind": round(chance(len(asked) // len(KINDS)), 4),
    }


def view_words(
    sampler: Sampler, looker: Looker, samples: int, guidance_scale: float, seed: int
) -> dict[str, Any]:
    """Measure which views are drawn for each view word, and how often it is the right one."""
    drawn: dict[str, dict[str, float]] = {}
    for i, view in enumerate(VIEWS):
        images, _ = _draw_all(sampler, samples, guidance_scale, seed + 1000 * i, view)
        seen = [view_of(a) for a in looker.look(images).azimuth_deg.tolist()]
        drawn[view] = {other: round(seen.count(other) / len(seen), 4) for other in VIEWS}
    right = sum(drawn[view][view] for view in VIEWS) / len(VIEWS)
    return {"guidance_scale": guidance_scale, "right": round(right, 4), "drawn": drawn}


def judge_the_judge(looker: Looker, count: int, seed: int) -> dict[str, Any]:
    """Measure how well template matching recognises true photographs."""
    photos = photograph(count, 0.25, seed)  # from all sides equally often
    looks = looker.look(photos.images.float() / 255)
    true_kind = torch.tensor([KINDS.index(PAIRS[i][0]) for i in photos.pairs.tolist()])
    true_colour = torch.tensor([list(COLOURS).index(PAIRS[i][1]) for i in photos.pairs.tolist()])
    right = (looks.kinds == true_kind) & (looks.colours == true_colour)
    off = wrap_deg(looks.azimuth_deg - photos.azimuth_deg).abs()
    views = [
        view_of(a) == view_of(b)
        for a, b in zip(looks.azimuth_deg.tolist(), photos.azimuth_deg.tolist(), strict=True)
    ]
    hard = torch.isin(true_kind, torch.tensor([KINDS.index(kind) for kind in HARD_KINDS]))
    return {
        "photographs": count,
        "recognised": round(right.double().mean().item(), 4),
        "view_right": round(sum(views) / count, 4),
        "azimuth_off_deg_median": round(off.median().item(), 2),
        "azimuth_off_beyond_15_deg": round((off > 15).double().mean().item(), 4),
        "azimuth_off_beyond_15_deg_hard_kinds": round((off[hard] > 15).double().mean().item(), 4),
        "rms_to_nearest_template": round(looks.distance.sqrt().mean().item(), 4),
    }


def histogram(azimuth_deg: Float[Tensor, " n"]) -> Float[Tensor, " bins"]:
    """Return the shares of azimuths in bins of ``BIN_DEG``, the first centred on the front."""
    bins = 360 // BIN_DEG
    index = (azimuth_deg / BIN_DEG).round().long() % bins
    return torch.bincount(index, minlength=bins).double() / len(azimuth_deg)


def total_variation(p: Float[Tensor, " bins"], q: Float[Tensor, " bins"]) -> float:
    """Return half the sum of the absolute differences, which is in [0, 1]."""
    return 0.5 * (p - q).abs().sum().item()


def recipe_of(model: Path) -> dict[str, Any]:
    """Return the recipe that the model was trained with, from its folder."""
    return json.loads((model / "vocabulary.json").read_text())["recipe"]


def _draw_all(
    sampler: Sampler, samples: int, guidance_scale: float, seed: int, view: str | None = None
) -> tuple[Images, Int[Tensor, " n"]]:
    """Draw ``samples`` images of every prompt, each prompt once before any is repeated."""
    asked = torch.arange(len(PROMPTS)).repeat(samples)
    texts = [caption(*PROMPTS[int(i)], view) for i in asked.tolist()]
    return sampler.draw(texts, guidance_scale, seed), asked


def _recognised(looks: Looks, asked: Int[Tensor, " n"], guidance_scale: float) -> dict[str, Any]:
    kind, colour = asked // len(COLOURS), asked % len(COLOURS)
    right = ((looks.kinds == kind) & (looks.colours == colour)).double()
    per_prompt = [right[asked == i].mean().item() for i in range(len(PROMPTS))]
    held_out = torch.tensor([PROMPTS[i] in HELD_OUT for i in asked.tolist()])

    def mean(rows: Tensor) -> float:
        return round(rows.double().mean().item(), 4)

    return {
        "guidance_scale": guidance_scale,
        "recognised": mean(right),
        "trained_pairs": mean(right[~held_out]),
        "held_out_pairs": mean(right[held_out]),
        "kind_right": mean(looks.kinds == kind),
        "colour_right": mean(looks.colours == colour),
        "kinds": {name: mean(right[kind == k]) for k, name in enumerate(KINDS)},
        "colours": {name: mean(right[colour == c]) for c, name in enumerate(COLOURS)},
        "prompts": {caption(*PROMPTS[i]): round(share, 4) for i, share in enumerate(per_prompt)},
        "held_out": {
            caption(*PROMPTS[i]): round(share, 4)
            for i, share in enumerate(per_prompt)
            if PROMPTS[i] in HELD_OUT
        },
        "rms_to_nearest_template": mean(looks.distance.sqrt()),
    }


def _near_front(azimuth_deg: Tensor) -> float:
    return (azimuth_deg.abs() < 45).double().mean().item()


def _rounded(shares: Tensor) -> list[float]:
    return [round(share, 4) for share in shares.tolist()]


def _write_grid(images: Images, path: Path) -> None:
    """Write a grid with a row per kind and a column per colour, at twice the size."""
    rows = images.unflatten(0, (len(KINDS), len(COLOURS))).repeat_interleave(2, -1)
    rows = rows.repeat_interleave(2, -2)
    sheet = torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)
    pixels = (sheet.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary)


if __name__ == "__main__":
    sys.exit(main())
