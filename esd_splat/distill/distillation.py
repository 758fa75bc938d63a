"""The state of one run and the step that updates it, without files, loops or user interfaces.

A step depends on the state alone. All random numbers come from named generators that are part of
the state, so a run that continues from a restored state computes the same bits.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from esd_splat.distill.checks import checked
from esd_splat.distill.draws import Drawn, TrainingDraws, draw_backgrounds
from esd_splat.distill.losses import surrogate_loss
from esd_splat.distill.microbatch import Pulled, Seen, join
from esd_splat.distill.predictions import Predictor
from esd_splat.distill.recent import Recent
from esd_splat.distill.step_config import StepConfig
from esd_splat.errors import CheckpointError, TeacherError
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.optim import (
    adam_state,
    apply_edit,
    clip_gradients,
    make_adam,
    restore_adam,
    scene_of,
    set_lr,
)
from esd_splat.scene.rasterize import contributions, rasterize, scene_device
from esd_splat.scene.rasterize.base import Render
from esd_splat.teacher import LinearEncoder, Teacher
from esd_splat.teacher.noise import alpha_sigma
from esd_splat.types import Images, Latents, Timesteps

STREAMS = ("cameras", "background", "noise", "lora", "importance")
"""What a step draws at random. Each of these has its own generator."""
IMPORTANCE_VIEWS = 16
"""Number of views in which the importance of the Gaussians is measured for densification."""
_Look = tuple[Render, Latents]
"""The render of some views and its latents."""


class Distillation:
    """The distillation of a scene: its optimizer, its LoRA and its random numbers.

    Args:
        saved: what ``state`` returned, to continue from it. Without it, ``config.init`` builds the
            scene.
    """

    def __init__(
        self,
        config: StepConfig,
        teacher: Teacher,
        backend: str,
        saved: dict[str, Any] | None = None,
    ) -> None:
        self.config, self.teacher, self.backend = config, teacher, backend
        self.device = teacher.device
        self.home = scene_device(backend, self.device)  # of the scene
        self._alphas_cumprod = teacher.alphas_cumprod.cpu()
        at_once = config.memory.views_at_once
        if teacher.joint and at_once is not None and at_once < config.batch:
            raise TeacherError(
                f"memory.views_at_once: must be null or batch, {config.batch}, got {at_once}: this "
                "teacher looks at all views of a step at once"
            )
        if teacher.ring is not None and (config.batch, config.cameras.ring) != (teacher.ring, True):
            raise TeacherError(
                f"batch, cameras.ring: must be {teacher.ring} and true, got {config.batch} and "
                f"{str(config.cameras.ring).lower()}: this teacher was trained on {teacher.ring} "
                "views that are evenly spaced at one elevation"
            )
        self.generators = {
            name: torch.Generator().manual_seed(config.seed * 16 + index)
            for index, name in enumerate(STREAMS)
        }
        self.predictor = Predictor(config, teacher)
        self.lora = self.predictor.lora
        self.linear = None
        if config.latent_warmup:
            generator = torch.Generator().manual_seed(config.seed * 16 + len(STREAMS))
            self.linear = LinearEncoder.fit(teacher, generator)
        self.recent: Recent | None = None  # for losses and LoRAs that need it
        self.seen: Seen | None = None
        self.done = 0
        if saved is not None:
            self._restore(saved)
            return
        start = config.init.build(torch.Generator().manual_seed(config.seed))
        self.optimizer = make_adam(start.map(lambda value: value.to(self.home)), config.optim)
        self.densify_state = config.densify.start(len(start), self.home)

    @property
    def scene(self) -> Gaussians:
        """The current scene. Its tensors are the parameters of the optimizer."""
        return scene_of(self.optimizer)

    def step(self) -> dict[str, float]:
        """Update the scene once and return the values to log.

        Raises:
            RunError: a value is NaN or infinite, or all Gaussians vanished. The message names the
                step.
        """
        config, step = self.config, self.done
        progress = step / config.steps
        set_lr(self.optimizer, config.optim, progress)
        if step == 0 and self.lora is not None:
            self._train_lora_first()
        views = self._draw(progress)
        parts = views.split(config.memory.views_at_once)
        looks: list[_Look] = []
        if (step - 1) / config.steps < config.latent_warmup <= progress:
            self.recent = None  # the pool must not mix latents of the linear encoder and the VAE
        if self.predictor.uses_recent:
            # The pool must hold all views of a step before it predicts noise for any of them.
            with torch.set_grad_enabled(len(parts) == 1):
                looks = [self._look(part, progress) for part in parts]
            self._remember(torch.cat([latents for _, latents in looks]), views.cameras)
        pulled = []
        for part in parts:
            # To save memory, only one part at a time has an autograd graph.
            look = looks[0] if looks and len(parts) == 1 else self._look(part, progress)
            pulled.append(self._pull(part, look, progress))
        clean, render, grad2d, self.seen, means = join(pulled)
        config.densify.observe(self.densify_state, render, grad2d)
        clip_gradients(self.optimizer, config.optim)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.lora is not None:
            means["lora"] = self._train_lora(clean, views)
        self.done = step + 1
        logged = checked(means, render.visible, self.scene, self.done)
        logged["direction"] **= 0.5
        self._densify()
        return logged | {"gaussians": float(len(self.scene))}

    def _remember(self, latents: Latents, cameras: Cameras) -> None:
        """Add the views of the current step to the recent ones, and drop the stalest."""
        new = Recent.of(latents, cameras.c2w, self.done)
        most = self.config.pool.views
        self.recent = new[-most:] if self.recent is None else self.recent.join(new, most)

    def _train_lora(self, clean: Latents, views: Drawn) -> Float[Tensor, ""]:
        """Train the LoRA on these views and return its error, see ``AttachedLora.train``."""
        assert self.lora is not None
        now, at_once = (
            Recent.of(clean, views.cameras.c2w, self.done),
            self.config.memory.views_at_once,
        )
        return self.lora.train(now, self.predictor.plain, views.training, at_once, self.recent)

    @torch.no_grad()
    def _train_lora_first(self) -> None:
        """Train the LoRA on views of the initial scene, see ``Lora.first_steps``."""
        config, generator = self.config, self.generators["lora"]
        for _ in range(config.lora.first_steps):
            cameras = config.cameras.sample(config.batch, generator)
            background = draw_backgrounds(config.background, config.batch, generator)
            t = torch.zeros(config.batch, dtype=torch.long)  # nothing is noised but by the LoRA
            views = Drawn(cameras, background, t, None, self._draw_training(0.0))
            views = views.to(self.device, self.home)
            _, latents = self._look(views, 0.0)
            if self.predictor.uses_recent:
                self._remember(latents, views.cameras)
            with torch.enable_grad():
                self._train_lora(latents, views)

    def _draw(self, progress: float) -> Drawn:
        """Draw everything that is random in a step, before its views are split."""
        config, generators, batch = self.config, self.generators, self.config.batch
        cameras = config.cameras.sample(
            batch, generators["cameras"], config.cameras.size_at(progress)
        )
        levels, schedule = 1 if self.teacher.joint else batch, self._alphas_cumprod
        t = config.timesteps.draw(progress, levels, schedule, generators["noise"]).expand(batch)
        noise = self.predictor.draw(batch, generators["noise"])
        background = draw_backgrounds(config.background, batch, generators["background"])
        training = self._draw_training(progress)
        return Drawn(cameras, background, t, noise, training).to(self.device, self.home)

    def _draw_training(self, progress: float) -> tuple[TrainingDraws, ...]:
        if self.lora is None:
            return ()
        return self.lora.draw(self.config.batch, self.generators["lora"], progress)

    def _look(self, views: Drawn, progress: float) -> _Look:
        assert views.scene_cameras is not None
        render = rasterize(self.scene, views.scene_cameras, views.background, self.backend)
        return render, self.encode(render.images, progress)

    def encode(self, images: Images, progress: float) -> Latents:
        """Encode ``images`` with the encoder that is in use at ``progress``."""
        linear = self.linear if progress < self.config.latent_warmup else None
        return (linear or self.teacher).encode(images)

    def _pull(self, views: Drawn, look: _Look, progress: float) -> Pulled:
        """Add the gradient of the loss in some of the step's views to the scene's gradient."""
        config, (render, latents) = self.config, look
        render.means2d.retain_grad()
        clean, (cameras, _, t, noise, *_) = latents.detach(), views
        noised = self.predictor.noised(clean, t, cameras, noise)
        predictions = self.predictor.predict(noised, t, cameras, config.loss.needs, self.recent)
        weights = config.timesteps.weights(self.teacher.alphas_cumprod, t)
        pull = config.loss.direction(**predictions)
        direction = config.clamp.apply(weights * pull, progress)
        terms = config.regularise.terms(self.scene, render.alphas)
        if config.image_loss:
            terms["image"] = config.image_loss * self._image_loss(render.images, clean, pull, t)
        share = len(t) / config.batch
        (share * (surrogate_loss(latents, direction) + sum(terms.values()))).backward()
        grad2d = render.means2d.grad
        assert grad2d is not None
        logged = {"direction": direction.square().mean()} | terms
        logged = {name: share * value.detach() for name, value in logged.items()}
        seen = Seen(render.images.detach(), noised.noisy, t, predictions)
        return Pulled(clean, render, grad2d, seen, logged)

    def _image_loss(
        self, images: Images, clean: Latents, pull: Latents, t: Timesteps
    ) -> Float[Tensor, ""]:
        """Half the squared distance between the rendered pixels and those that the loss aims at.

        The latter are decoded from the latents ``x_0 - (sigma / alpha) direction`` (HiFA,
        equation 8). For SDS these are the teacher's own estimate of the clean latents.
        """
        alpha, sigma = alpha_sigma(self.teacher.alphas_cumprod, t)
        better = self.teacher.decode(clean - sigma / alpha * pull)
        if images.shape != better.shape:
            size = better.shape[-2:]
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        weights = self.config.timesteps.weights(self.teacher.alphas_cumprod, t)
        return 0.5 * (weights * (images - better).square()).sum() / len(images)

    @torch.no_grad()
    def views(
        self, cameras: Cameras, background: Float[Tensor, "b 3"], scene: Gaussians | None = None
    ) -> Images:
        """Render ``scene`` (default: the current one) to the CPU, clamped to [0, 1]."""
        scene = self.scene if scene is None else scene
        parts = [
            rasterize(scene, cameras[one].to(self.home), behind.to(self.home), self.backend)
            .images.clamp(0, 1)
            .cpu()
            for one, behind in zip(
                torch.arange(len(cameras)).split(1), background.split(1), strict=True
            )
        ]
        return torch.cat(parts)

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint must hold."""
        return {
            "done": self.done,
            "optimizer": adam_state(self.optimizer),
            "densify": self.densify_state,
            "generators": {name: g.get_state() for name, g in self.generators.items()},
            "lora": self.lora.state() if self.lora else None,
            "recent": None if self.recent is None else self.recent.state(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        self.optimizer = restore_adam(state["optimizer"], self.home)
        self.densify_state = {k: v.to(self.home) for k, v in state["densify"].items()}
        if missing := sorted(self.generators.keys() - state["generators"].keys()):
            raise CheckpointError(
                f"checkpoint: has no state for the random numbers of {', '.join(missing)}; start "
                "again with overwrite=true"
            )
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        if self.lora is not None:
            self.lora.restore(state["lora"])
        self.recent = Recent.restored(state.get("recent"), self.device)

    def _densify(self) -> None:
        config, scene, now = self.config, self.scene, (self.done, self.config.steps)
        lr = config.optim.rate("means", (self.done - 1) / config.steps)
        config.densify.nudge(scene.map(Tensor.detach), lr, *now, config.seed)
        edit = config.densify.edit(scene, self.densify_state, self._importance, *now, config.seed)
        if edit is not None:
            apply_edit(self.optimizer, edit)
            self.densify_state = config.densify.start(len(self.scene), self.home)

    def _importance(self) -> Float[Tensor, " n"]:
        """How much each Gaussian contributes to the pixels of some newly drawn views."""
        cameras = self.config.cameras.sample(IMPORTANCE_VIEWS, self.generators["importance"])
        return contributions(self.scene, cameras.to(self.home), self.backend)
