"""Train the embedded teacher from scratch.

The command is ``python -m esd_splat.figurines.training.train --out FOLDER``.

Photographs are traced, and their principal components give the encoder. The text-conditioned
noise predictor is trained on the latents, and the decoder on the way back to pixels. Every stage is
seeded and can be resumed: batch ``i`` depends only on the seed and on ``i``. On several cores, one
process per core is faster than one process with several threads, and gives the same batches::

    python -m torch.distributed.run --nproc-per-node 2 \\
        -m esd_splat.figurines.training.train --out FOLDER
"""

import copy
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from esd_splat import command
from esd_splat.errors import UsageError
from esd_splat.figurines import COLOURS, HELD_OUT, KINDS, VOCABULARY
from esd_splat.figurines.training import networks as networks
from esd_splat.figurines.training.data import FRONT_SHARES, Photos, photograph, write_captions
from esd_splat.figurines.training.processes import average, cached, rank, share
from esd_splat.files import atomic_path, write_text
from esd_splat.scene.cameras import Orbit
from esd_splat.scene.denormals import denormals_flushed
from esd_splat.settings.schema import Field, section
from esd_splat.teacher.noise import add_noise
from esd_splat.teacher.tokenizer import make_tokenizer

PCA_PHOTOS = 2000
"""The number of photographs from which the components of the encoder are computed."""
LATENT_NOISE = 0.05
"""Standard deviation of the noise on latents that makes the decoder robust to it."""
SAVE_EVERY = 250
"""Steps between the checkpoints of a stage."""
VOCABULARY_FILE = "vocabulary.json"
BALANCE = 0.4
"""The squared error is about this power of the signal-to-noise ratio: it was 0.34 at timestep 5 and
0.006 at 980. Dividing by it makes every noise level count equally. Otherwise the high ones, which
decide pose and colour, would hardly count."""
EMPTY_SHARE = 0.1
"""The share of captions that are dropped to train the unconditional prediction for guidance."""


@section
class Recipe:
    """Everything that determines the weights. It is saved beside them."""

    seed: int = 0
    front_share: float = Field(default=0.7, ge=FRONT_SHARES[0], le=FRONT_SHARES[1])
    """The share of photographs from within 45 degrees of the front."""
    photos: int = 30_000
    unet_steps: int = 14_000
    unet_batch: int = 32
    unet_lr: float = 7e-4
    ema: float = 0.9985
    decoder_steps: int = 4000
    decoder_batch: int = 8
    decoder_lr: float = 2e-3


def main(argv: Sequence[str] | None = None) -> int:
    """Train, write the model folder, and return the exit status. See ``command.run``."""
    goes_on = "interrupted; the same command continues from the last checkpoint"
    return command.run(lambda: _main(argv), "train", interrupted=goes_on)


@denormals_flushed()
def _main(argv: Sequence[str] | None) -> None:
    """Run every stage that is not yet in the work folder, then write the model folder."""
    parser = command.Parser(
        prog="python -m esd_splat.figurines.training.train", description=__doc__
    )
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--work", type=Path, default=Path("outputs/teacher"), help="checkpoints")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--init", type=Path, help="model folder to continue from")
    for name, value in vars(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args(argv)
    try:
        recipe = Recipe(**{name: getattr(args, name) for name in vars(Recipe())})
    except ValueError as error:
        raise UsageError(str(error)) from error
    torch.set_num_threads(args.threads)
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")
    args.work.mkdir(parents=True, exist_ok=True)
    asked = vars(recipe) | {"init": args.init and str(args.init)}
    if other := _claim(args.work / "recipe.json", asked):
        raise UsageError(
            f"--work: {args.work} was begun with other {', '.join(other)}; choose another"
        )

    photos = cached(
        args.work / "photos.pt",
        lambda: vars(photograph(recipe.photos, recipe.front_share, recipe.seed)),
    )
    run = Training(recipe, Photos(**photos), args.work, args.device, args.init)
    run.fit_unet()
    run.fit_decoder()
    if rank() == 0:
        run.save(args.out)


class Training:
    """The networks during training, and the folder with their state."""

    def __init__(
        self, recipe: Recipe, photos: Photos, work: Path, device: str, init: Path | None
    ) -> None:
        self.recipe, self.photos, self.work, self.device = recipe, photos, work, device
        self.before = json.loads((init / VOCABULARY_FILE).read_text())["recipe"] if init else None
        torch.manual_seed(recipe.seed)
        self.tokenizer = make_tokenizer(VOCABULARY, networks.TOKENS)
        some = torch.arange(0, recipe.photos, max(1, recipe.photos // PCA_PHOTOS))
        self.vae = networks.make_vae(photos.images[some].float() / 255)
        self.unet = networks.make_unet()
        self.text = networks.make_text_encoder(self.tokenizer)
        if init is not None:
            self.vae = type(self.vae).from_pretrained(init / "vae")
            self.unet = type(self.unet).from_pretrained(init / "unet")
            self.text = type(self.text).from_pretrained(init / "text_encoder")
        for network in (self.vae, self.unet, self.text):
            nn.Module.to(network, device, torch.float32)  # saved weights are in half precision
        cast(Any, self.unet).to(memory_format=torch.channels_last)
        self.latents = cached(work / "latents.pt", self._encode_all)["latents"]

    def fit_unet(self) -> None:
        """Train on the squared error to the drawn noise, weighted by timestep, see ``BALANCE``."""
        recipe = self.recipe
        both = nn.ModuleDict({"unet": self.unet, "text": self.text})
        learner = _Learner("unet", both, recipe.unet_lr, recipe.unet_steps, recipe.ema, self.work)
        alphas_cumprod = networks.make_scheduler().alphas_cumprod.to(self.device)
        weights = (1 / alphas_cumprod - 1) ** BALANCE
        scale = self.vae.config["scaling_factor"]
        for step, generator in learner.steps(recipe.seed + 1):
            rows = torch.randint(recipe.photos, (recipe.unet_batch,), generator=generator)
            rng = random.Random(f"{recipe.seed} {step}")
            captions = share(write_captions(self.photos, rows, EMPTY_SHARE, rng))
            t = share(torch.randint(1000, (len(rows),), generator=generator)).to(self.device)
            shape = (len(rows), *self.latents.shape[1:])
            noise = share(torch.randn(shape, generator=generator)).to(self.device)
            clean = self.latents[share(rows)].float().to(self.device) * scale
            noisy = add_noise(clean, noise, alphas_cumprod, t)
            noisy = noisy.contiguous(memory_format=torch.channels_last)
            eps = self.unet(noisy, t, self._embed(captions)).sample
            learner.update(step, (weights[t] * (eps - noise).square().mean((1, 2, 3))).mean())
        learner.finish()

    def fit_decoder(self) -> None:
        """Train the decoder from latents to pixels with L1 and L2 losses only."""
        recipe = self.recipe
        learner = _Learner(
            "decoder", self.vae.decoder, recipe.decoder_lr, recipe.decoder_steps, 0.99, self.work
        )
        for step, generator in learner.steps(recipe.seed):
            rows = torch.randint(recipe.photos, (recipe.decoder_batch,), generator=generator)
            shape = (len(rows), *self.latents.shape[1:])
            noise = share(torch.randn(shape, generator=generator)).to(self.device)
            latents = self.latents[share(rows)].float().to(self.device)
            off = self.vae.decoder(latents + LATENT_NOISE * noise) - self._pixels(share(rows))
            mse = off.square().mean()
            psnr = -10 * math.log10(mse.item() / 4)
            learner.update(step, off.abs().mean() + 2 * mse, psnr=psnr)
        learner.finish()

    def save(self, out: Path) -> None:
        """Write the model folder, its vocabulary and the recipe."""
        networks.save_pipeline(out, self.vae, self.text, self.tokenizer, self.unet)
        orbit = Orbit()
        about = {
            "words": list(VOCABULARY),
            "kinds": list(KINDS),
            "colours": list(COLOURS),
            "held_out": sorted(" ".join((colour, kind)) for kind, colour in HELD_OUT),
            "cameras": {"distance": orbit.distance, "elevation": orbit.elevation, "fov": orbit.fov},
            "recipe": vars(self.recipe) | {"gone_on_from": self.before},
        }
        (out / VOCABULARY_FILE).write_text(json.dumps(about, indent=1) + "\n")

    def _pixels(self, rows: Tensor) -> Tensor:
        x = self.photos.images[rows].to(self.device).float() / 127.5 - 1
        return x.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _encode_all(self) -> dict[str, Tensor]:
        parts = [
            self.vae.encoder(self._pixels(rows)).half().cpu()
            for rows in torch.arange(self.recipe.photos).split(64)
        ]
        return {"latents": torch.cat(parts)}

    def _embed(self, captions: list[str]) -> Tensor:
        tokens = self.tokenizer(
            captions, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return self.text(tokens.to(self.device)).last_hidden_state


class _Learner:
    """AdamW with warm-up and cosine decay, an average of the weights, and checkpoints."""

    def __init__(
        self, name: str, network: nn.Module, lr: float, steps: int, ema: float, work: Path
    ) -> None:
        self.name, self.network, self.lr, self.total, self.ema = name, network, lr, steps, ema
        self.path = work / f"{name}.pt"
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-3)
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.first, self.log, self.mean = 0, work / f"{name}.csv", math.nan
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.first = state["step"]
        self.started = time.time()

    def steps(self, seed: int) -> Iterator[tuple[int, torch.Generator]]:
        """Yield the remaining steps, each with its own generator."""
        for step in range(self.first, self.total):
            yield step, torch.Generator().manual_seed((seed << 32) + step)

    def update(self, step: int, loss: Tensor, **measures: float) -> None:
        """Take an optimizer step, with a line in the log and a checkpoint at intervals."""
        rate = min(1, (step + 1) / 300) * (
            0.02 + 0.49 * (1 + math.cos(math.pi * step / self.total))
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * rate
        self.optimizer.zero_grad()
        loss.backward()
        average([p.grad for p in self.network.parameters() if p.grad is not None])
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        # The average starts with a short memory, so that it forgets the random start.
        decay = min(self.ema, (1 + step) / (10 + step))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast.detach(), 1 - decay)
        value = loss.item()
        self.mean = value if math.isnan(self.mean) else 0.98 * self.mean + 0.02 * value
        if rank() != 0:
            return
        if step % 50 == 0:
            seconds = time.time() - self.started
            line = f"{self.name},{step},{seconds:.0f},{self.mean:.5f}"
            line += "".join(f",{key}={v:.3f}" for key, v in measures.items())
            print(line, flush=True)
            with self.log.open("a") as file:
                file.write(line + "\n")
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == self.total:
            state = {
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": step + 1,
            }
            with atomic_path(self.path) as temporary:
                torch.save(state, temporary)

    def finish(self) -> None:
        """Load the averaged weights into the network."""
        self.network.load_state_dict(self.average.state_dict())


def _claim(file: Path, asked: dict[str, Any]) -> list[str]:
    """Write ``asked`` to ``file``, or return the names of values that differ from those in it.

    If there are photographs but no such file, their recipe is unknown, so all names are returned.
    """
    before = json.loads(file.read_text()) if file.exists() else {}
    if before or file.with_name("photos.pt").exists():
        return [name for name, value in asked.items() if before.get(name, ...) != value]
    if rank() == 0:
        write_text(file, json.dumps(asked, indent=1) + "\n")
    return []


if __name__ == "__main__":
    sys.exit(main())
