"""Teachers in the layout of diffusers' Stable Diffusion: the embedded one, a folder, a hub id."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from esd_splat.errors import PromptError, TeacherError
from esd_splat.noise import eps_from_v, velocity
from esd_splat.prompt import ViewPrompts
from esd_splat.teacher.base import Embeddings, Teacher, TeacherConfig
from esd_splat.teacher.debias import check_language_model
from esd_splat.teacher.loading import local_folder, quiet, reach_hub, reason
from esd_splat.types import Images, Latents, Timesteps

EMBEDDED_FOLDER = Path(__file__).parent.parent / "weights" / "figurines"
PARTS = ("tokenizer", "text_encoder", "vae", "unet", "scheduler")
LAST_FILE = f"{PARTS[-1]}/scheduler_config.json"


@dataclass(frozen=True)
class StableDiffusion(TeacherConfig):
    """Any text-to-image model saved as tokenizer, CLIP text encoder, VAE, UNet and scheduler."""

    model: str = TeacherConfig.embedded
    """``figurines`` (the model that ships with us), a folder, or a hub id such as
    stable-diffusion-v1-5/stable-diffusion-v1-5."""
    variant: str | None = None
    """Weight files to take, such as fp16 for ``*.fp16.safetensors``; null takes the plain ones."""
    guidance_scale: float = 1.0
    """Classifier-free guidance, in [0, 1000]: 1 is the model's own distribution, larger follows the
    prompt more and varies less."""
    guidance_rescale: float = 0.0
    """Share, in [0, 1], of the contrast added by guidance that is taken back (arXiv:2305.08891):
    0 is plain guidance; 0.7 is their advice, against washed-out and overexposed colours."""
    views: ViewPrompts = field(default_factory=ViewPrompts)

    def __post_init__(self) -> None:
        ranges = {"guidance_scale": 1000.0, "guidance_rescale": 1.0}
        if problems := [
            f"{name}: must be in [0, {most:g}], got {getattr(self, name):g}"
            for name, most in ranges.items()
            if not 0 <= getattr(self, name) <= most
        ]:
            raise ValueError("\n".join(problems))

    @property
    def folder(self) -> Path | None:
        """Where the model lies, or ``None`` for a hub id."""
        if self.model == self.embedded:
            return EMBEDDED_FOLDER
        return local_folder(self.model)

    @property
    @override
    def vocabulary(self) -> dict[str, Any] | None:
        file = self.folder / "vocabulary.json" if self.folder else None
        if file is None or not file.exists():
            return None
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            return found | {name: list(found[name]) for name in ("words", "kinds", "colours")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TeacherError(
                f"teacher.model: {file} is no list of words ({error}). " + self._hint()
            ) from error

    @override
    def check(self, prompts: Mapping[str, str]) -> None:
        check_language_model(self.views.language_model)
        folder = self.folder
        if folder is None:
            return
        if not folder.is_dir():
            raise TeacherError(
                f"teacher.model: no folder {self.model!r}; give a Stable Diffusion folder, a hub "
                f"id (owner/name), or {self.embedded!r} for the model that ships with esd_splat"
            )
        if missing := [part for part in PARTS if not (folder / part).is_dir()]:
            raise TeacherError(
                f"teacher.model: {folder} is not a Stable Diffusion folder: it has no "
                f"{', '.join(missing)}; save one with diffusers' save_pretrained"
            )
        if vocabulary := self.vocabulary:
            _check_words(prompts, vocabulary)

    @override
    def load(self, device: torch.device, dtype: torch.dtype) -> Teacher:
        # Imported here: they take seconds, and a wrong key should not cost seconds.
        with quiet():
            import diffusers
            import transformers

            classes: dict[str, Any] = {
                "tokenizer": transformers.CLIPTokenizer,
                "text_encoder": transformers.CLIPTextModel,
                "vae": None,  # AutoencoderKL, or AutoencoderTiny as ours: its config tells
                "unet": diffusers.UNet2DConditionModel,
                "scheduler": diffusers.DDPMScheduler,
            }
            self._reach_hub()
            parts = {name: self._load_part(name, classes[name], dtype) for name in PARTS}
        return _Loaded(parts, device, dtype)

    def _load_part(self, name: str, kind: Any, dtype: torch.dtype) -> Any:
        options: dict[str, Any] = {"subfolder": name}
        if name in ("text_encoder", "vae", "unet"):
            # Never a pickle: only safetensors are read.
            options |= {"torch_dtype": dtype, "use_safetensors": True, "variant": self.variant}
            options["output_loading_info"] = True
        if name == "text_encoder":
            options["dtype"] = options.pop("torch_dtype")
        source = str(self.folder or self.model)
        try:
            part = (kind or _vae_class(source)).from_pretrained(source, **options)
            # transformers makes an empty tokenizer of a missing one, without a word.
            if "output_loading_info" in options:
                part, info = part
                # Both libraries would make up what a file of another network lacks.
                if lacking := sorted(info["missing_keys"]):
                    raise ValueError(f"its file lacks {len(lacking)} weights, such as {lacking[0]}")
            if name == "tokenizer" and not len(part) > len(part.all_special_tokens):
                raise ValueError("it has no vocabulary")
            return part
        # Hub, network, safetensors and shape errors share no base class but this one.
        except Exception as error:
            raise TeacherError(
                f"teacher.model: cannot load the {name} of {source!r}: {reason(error)}. "
                + self._hint()
            ) from error

    def _reach_hub(self) -> None:
        """Ask the hub once, as loading would ask, wait and ask again for each of many files."""
        if self.folder is not None:
            return
        try:
            reach_hub(self.model, LAST_FILE)
        except Exception as error:
            raise TeacherError(
                f"teacher.model: cannot find {self.model!r} on the hub: {reason(error)}. "
                + self._hint()
            ) from error

    def _hint(self) -> str:
        if self.folder is None:
            return (
                "Without a network, download the model elsewhere and give its folder; "
                f"teacher.model={self.embedded} needs neither."
            )
        if self.model == self.embedded:
            return "The installation is damaged: install esd_splat again."
        return "Its weights must be whole, and safetensors; copy or download the folder again."


class _Loaded(Teacher):
    """The networks of one folder."""

    def __init__(self, parts: dict[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self._dtype = dtype
        self._tokenizer = parts["tokenizer"]
        self._text = parts["text_encoder"].to(device).eval().requires_grad_(False)
        self._vae = parts["vae"].to(device).eval().requires_grad_(False)
        unet = parts["unet"].to(device).eval().requires_grad_(False)
        self.unet = unet.to(memory_format=torch.channels_last)  # convolutions are fastest so
        scheduler = parts["scheduler"]
        self._predicts = scheduler.config.prediction_type
        if self._predicts not in ("epsilon", "v_prediction"):
            raise TeacherError(
                f"teacher.model: its network predicts {self._predicts!r}; "
                "epsilon and v_prediction are understood"
            )
        self.alphas_cumprod = scheduler.alphas_cumprod.float().to(device)
        config = self._vae.config
        self._scale = config.scaling_factor
        self._shift = getattr(config, "shift_factor", None) or 0.0
        factor = 2 ** (len(config.block_out_channels) - 1)
        self.image_size: int = int(self.unet.config["sample_size"]) * factor  # pyright: ignore
        self._cache: dict[str, Tensor] = {}

    @override
    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Embeddings:
        for text in dict.fromkeys(texts):
            if text not in self._cache:
                tokens = self._tokenizer(
                    text, padding="max_length", truncation=True, return_tensors="pt"
                ).input_ids
                hidden = self._text(tokens.to(self.device)).last_hidden_state
                self._cache[text] = hidden.float()
        return torch.cat([self._cache[text] for text in texts])

    @override
    def encode(self, images: Images) -> Latents:
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = torch.nn.functional.interpolate(
                images, size, mode="bilinear", antialias=True, align_corners=False
            )
        encoded = self._vae.encode((2 * images - 1).to(self._dtype))
        # AutoencoderTiny has no distribution, only what would be its mean.
        mean = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mean
        return (mean.float() - self._shift) * self._scale

    @override
    @torch.no_grad()
    def decode(self, latents: Latents) -> Images:
        images = self._vae.decode((latents / self._scale + self._shift).to(self._dtype)).sample
        return (images.float() / 2 + 0.5).clamp(0, 1)

    @override
    def output(self, noisy: Latents, t: Timesteps, embeddings: Embeddings) -> Latents:
        return self.unet(noisy.to(self._dtype), t, embeddings.to(self._dtype)).sample.float()

    @override
    def target(self, clean: Latents, noise: Latents, t: Timesteps) -> Latents:
        if self._predicts == "epsilon":
            return noise
        return velocity(clean, noise, self.alphas_cumprod, t)

    @override
    def eps(self, noisy: Latents, t: Timesteps, embeddings: Embeddings) -> Latents:
        output = self.output(noisy, t, embeddings)
        if self._predicts == "epsilon":
            return output
        return eps_from_v(output, noisy, self.alphas_cumprod, t)


def _check_words(prompts: Mapping[str, str], vocabulary: dict[str, Any]) -> None:
    for key, text in prompts.items():
        words = re.findall(r"[^\W_]+|[^\w\s]|_", text.lower())
        unknown = sorted(set(words) - set(vocabulary["words"]))
        if not unknown:
            continue
        kinds, colours = vocabulary["kinds"], vocabulary["colours"]
        others = [word for word in vocabulary["words"] if word not in (*kinds, *colours)]
        raise PromptError(
            f"{key}: the embedded teacher does not know {', '.join(map(repr, unknown))}. It knows "
            f'{", ".join(kinds)} in {", ".join(colours)}, as in "a red owl", and '
            f"{' '.join(others)}. For other things choose another teacher, such as "
            "teacher.model=stable-diffusion-v1-5/stable-diffusion-v1-5 (configs/esd_sd.yaml, GPU)"
        )


def _vae_class(source: str) -> Any:
    import diffusers

    name = diffusers.AutoencoderKL.load_config(source, subfolder="vae")["_class_name"]  # pyright: ignore
    if name not in ("AutoencoderKL", "AutoencoderTiny"):
        raise ValueError(f"it is a {name}, not AutoencoderKL or AutoencoderTiny")
    return getattr(diffusers, name)
