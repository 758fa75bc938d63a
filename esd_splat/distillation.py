"""One run's state, and the step that moves it. Knows every part; not files, loops or screens.

A step is a function of the state alone: every random number comes from a named generator in it,
so a restored state goes on to the same bits.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.cameras import Cameras
from esd_splat.checkpoint import (
    generator_states,
    restore_generators,
    restore_optimizer,
    scene_state,
)
from esd_splat.config import Config
from esd_splat.errors import RunError
from esd_splat.gaussians import Gaussians
from esd_splat.losses import surrogate_loss
from esd_splat.measure import view_information
from esd_splat.noise import add_noise, alpha_sigma
from esd_splat.optim import apply_edit, clip_gradients, make_adam, scene_of, set_lr
from esd_splat.pool import Views
from esd_splat.rasterize import contributions, rasterize
from esd_splat.rasterize.base import MIN_ALPHA
from esd_splat.teacher import Branch, Guidance, Teacher
from esd_splat.types import Images, Latents, Timesteps

PARTICLE_INPUTS = {"particle": False, "particle_uncond": True}
"""What the particle predicts, and whether its camera is hidden for it."""
STREAMS = ("cameras", "background", "noise", "particle", "importance")
"""What is drawn at random in a step, each from a generator of its own."""
IMPORTANCE_VIEWS = 16
"""Views that the importance of a Gaussian is measured in, when densification asks for it."""
PLAIN_BACKGROUNDS = {"white": 1.0, "grey": 0.5, "black": 0.0}


class Distillation:
    """A scene on its way from its start to what the teacher finds likely."""

    def __init__(self, config: Config, teacher: Teacher, backend: str) -> None:
        self.config, self.teacher, self.backend = config, teacher, backend
        self.device = teacher.device
        self.generators = {
            name: torch.Generator().manual_seed(config.seed * 16 + index)
            for index, name in enumerate(STREAMS)
        }
        self.others = []
        for index in range(config.scenes):
            start = config.init.build(torch.Generator().manual_seed(config.seed + 1000 * index))
            self.optimizer = make_adam(start.map(lambda value: value.to(self.device)), config.optim)
            self.densify_state = config.densify.start(len(start), self.device)
            self.others.append((self.optimizer, self.densify_state))
        texts = config.prompt, config.negative_prompt
        self.guidance = Guidance(config.teacher, teacher, *texts)
        self.plain = teacher.embed([config.prompt])
        wanted = config.loss.needs & PARTICLE_INPUTS.keys()
        self.particle = config.particle.attach(teacher, config.seed) if wanted else None
        self.recent: Views | None = None  # latents of the latest views, for losses that pool them
        self.done = 0

    @property
    def scene(self) -> Gaussians:
        """The scene as it is now; its tensors are the optimizer's parameters."""
        return scene_of(self.optimizer)

    def step(self) -> dict[str, float]:
        """Move the scene once; returns what is worth logging.

        Raises:
            RunError: something turned NaN, or every Gaussian vanished; says at which step.
        """
        config, step = self.config, self.done
        turn = step % config.scenes
        self.optimizer, self.densify_state = self.others[turn]
        progress = step / config.steps
        set_lr(self.optimizer, config.optim, progress)
        cameras = config.cameras.sample(config.batch, self.generators["cameras"]).to(self.device)
        background = self._backgrounds(len(cameras))
        render = rasterize(self.scene, cameras, background, self.backend)
        if not render.visible.any():
            raise self._vanished(f"none is visible in any of {len(cameras)} views")
        render.means2d.retain_grad()
        latents = self.teacher.encode(render.images)
        clean = latents.detach()
        if "pooled" in config.loss.needs:
            self.recent = config.pool.join(self.recent, clean)

        alphas_cumprod = self.teacher.alphas_cumprod
        t = config.timesteps.draw(
            progress, len(cameras), len(alphas_cumprod), self.generators["noise"]
        ).to(self.device)
        noise = torch.randn(clean.shape, generator=self.generators["noise"]).to(self.device)
        noisy = add_noise(clean, noise, alphas_cumprod, t)
        predictions = self.predict(noisy, noise, t, cameras, config.loss.needs)
        direction = config.timesteps.weights(alphas_cumprod, t) * config.loss.direction(
            **predictions
        )
        direction = config.clamp.apply(direction, progress)
        terms = config.regularise.terms(self.scene, render.alphas)
        (surrogate_loss(latents, direction) + sum(terms.values())).backward()
        logged = {"direction": direction.square().mean().sqrt().item()}
        logged |= {name: value.item() for name, value in terms.items()}

        grad2d = render.means2d.grad
        assert grad2d is not None
        config.densify.observe(self.densify_state, render, grad2d)
        clip_gradients(self.optimizer, config.optim)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.particle is not None:
            embeddings = self.plain.expand(len(cameras), -1, -1)
            generator = self.generators["particle"]
            logged["particle"] = self.particle.train(clean, embeddings, cameras.c2w, generator)
        self.done = step + 1
        self._check(logged)
        self._densify()
        self.others[turn] = self.optimizer, self.densify_state
        return logged | {"gaussians": float(len(self.scene))}

    @torch.no_grad()
    def views(self, cameras: Cameras, background: Float[Tensor, "b 3"]) -> Images:
        """The scene from ``cameras``, clamped to [0, 1], on the CPU."""
        scene = self.scene
        parts = [
            rasterize(
                scene, cameras[one].to(self.device), behind.to(self.device), self.backend
            ).images
            for one, behind in zip(
                torch.arange(len(cameras)).split(1), background.split(1), strict=True
            )
        ]
        return torch.cat(parts).clamp(0, 1).cpu()

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint must hold."""
        return {
            "done": self.done,
            "optimizer": scene_state(self.optimizer),
            "densify": self.densify_state,
            "generators": generator_states(self.generators),
            "particle": self.particle.state() if self.particle else None,
            "recent": self.recent,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` returned."""
        self.done = state["done"]
        self.optimizer = restore_optimizer(state["optimizer"], self.device)
        self.densify_state = {k: v.to(self.device) for k, v in state["densify"].items()}
        restore_generators(state["generators"], self.generators)
        if self.particle is not None:
            self.particle.restore(state["particle"])
        recent = state.get("recent")  # older files have none
        self.recent = None if recent is None else recent.to(self.device)

    def _backgrounds(self, count: int) -> Float[Tensor, "b 3"]:
        """One plain colour for each view."""
        if self.config.background == "random":
            colours = torch.rand(count, 3, generator=self.generators["background"])
        else:
            colours = torch.full((count, 3), PLAIN_BACKGROUNDS[self.config.background])
        return colours.to(self.device)

    @torch.no_grad()
    def predict(
        self,
        noisy: Latents,
        noise: Latents,
        t: Timesteps,
        cameras: Cameras,
        needs: frozenset[str],
    ) -> dict[str, Any]:
        """The ``needs`` of a loss, and nothing else, in one pass through the network."""
        angles = cameras.azimuth_deg, cameras.elevation_deg
        branches = self.guidance.branches(*angles) if "teacher" in needs else {}
        hidden = {name: hides for name, hides in PARTICLE_INPUTS.items() if name in needs}
        every = torch.arange(len(noisy), device=self.device)
        plain = Branch(every, self.plain.expand(len(noisy), -1, -1))
        branches |= dict.fromkeys(hidden, plain)

        answers = self._ask(noisy, t, branches, hidden, cameras) if branches else {}
        predictions = {name: answers[name] for name in hidden}
        if "teacher" in needs:
            predictions["teacher"] = self.guidance.combine(answers, *angles, noise)
        if "noise" in needs:
            predictions["noise"] = noise
        if "progress" in needs:
            predictions["progress"] = self.done / self.config.steps
        if "information" in needs:
            assert self.recent is not None
            predictions["information"] = self._information(noisy, t)
        if "pooled" in needs:
            assert self.recent is not None
            predictions["pooled"] = self.config.pool.eps(
                self.recent, noisy, self.teacher.alphas_cumprod, t
            )
        return predictions

    def _information(self, noisy: Latents, t: Timesteps) -> float:
        """What noised views tell of which of the pool they are, over the most they could."""
        assert self.recent is not None
        found = []
        for view, level in zip(noisy.double(), t, strict=True):
            alpha, sigma = alpha_sigma(self.teacher.alphas_cumprod, level[None])
            points = self.recent[:, None].double()
            found.append(view_information(view[None], points, alpha.item(), sigma.item()))
        return sum(found) / len(found) / max(math.log(len(self.recent)), 1e-9)

    def _ask(
        self,
        noisy: Latents,
        t: Timesteps,
        branches: dict[str, Branch],
        hidden: dict[str, bool],
        cameras: Cameras,
    ) -> dict[str, Latents]:
        """The noise that each branch predicts, zero for views that it leaves out.

        ``hidden`` names the branches of the particle, which are at the end.
        """
        views = torch.cat([branch.views for branch in branches.values()])
        texts = torch.cat([branch.texts for branch in branches.values()])
        asked = noisy[views], t[views], texts
        if self.particle is None:
            eps = self.teacher.eps(*asked)
        else:
            hides = torch.tensor(list(hidden.values()), device=self.device)
            c2w = cameras.c2w.repeat(len(hidden), 1, 1)
            eps = self.particle.eps(*asked, c2w, hides.repeat_interleave(len(noisy)))
        parts = eps.split([len(branch.views) for branch in branches.values()])
        return {
            name: eps.new_zeros(noisy.shape).index_copy(0, branch.views, part)
            for (name, branch), part in zip(branches.items(), parts, strict=True)
        }

    def _densify(self) -> None:
        config, scene, now = self.config, self.scene, self._turns()
        lr = config.optim.rate("means", (self.done - 1) / config.steps)
        config.densify.nudge(scene.map(Tensor.detach), lr, *now, config.seed)
        edit = config.densify.edit(scene, self.densify_state, self._importance, *now, config.seed)
        if edit is not None:
            apply_edit(self.optimizer, edit)
            self.densify_state = config.densify.start(len(self.scene), self.device)

    def _turns(self) -> tuple[int, int]:
        """Steps of this scene, done and in all."""
        scenes = self.config.scenes
        return (self.done - 1) // scenes + 1, self.config.steps // scenes

    def _importance(self) -> Float[Tensor, " n"]:
        """Light that each Gaussian sends to the pixels of some new views."""
        cameras = self.config.cameras.sample(IMPORTANCE_VIEWS, self.generators["importance"])
        return contributions(self.scene, cameras.to(self.device), self.backend)

    def _vanished(self, how: str) -> RunError:
        return RunError(
            f"step {self.done}: all {len(self.scene)} Gaussians vanished: {how}; lower the "
            "learning rates (optim) or the weights in regularise"
        )

    def _check(self, logged: dict[str, float]) -> None:
        finite = {
            name: value == value and abs(value) != float("inf") for name, value in logged.items()
        }
        finite |= {name: bool(value.isfinite().all()) for name, value in vars(self.scene).items()}
        if broken := [name for name, fine in finite.items() if not fine]:
            raise RunError(
                f"step {self.done}: {', '.join(broken)} turned NaN or infinite; lower the learning "
                "rates (optim, particle.lr) or teacher.guidance_scale, or use precision=32"
            )
        if not (self.scene.opacities >= MIN_ALPHA).any():
            raise self._vanished(f"none has the least opacity that is drawn, {MIN_ALPHA:.2g}")
