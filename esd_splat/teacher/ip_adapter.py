"""IP-Adapter (Ye et al., arXiv:2308.06721): a picture as part of the prompt, as in diffusers."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor, nn

from esd_splat.errors import TeacherError
from esd_splat.files import expanded
from esd_splat.teacher.latent import Picture
from esd_splat.teacher.listing import Listing, in_words
from esd_splat.teacher.loading import PICKLES, SAFE, local_folder, reason, way_out
from esd_splat.teacher.weight_files import read_header

KEY = "teacher.image_adapter"
AUTHORS = "h94/IP-Adapter"
"""Hub id of the authors' adapters, whose folders we expect."""
ENCODER = "image_encoder"
_ELSEWHERE = ("models", "sdxl_models")
"""The authors' folders. Some adapters there need the image encoder of the other folder."""
_KINDS = {
    "proj.weight": ("proj.weight", "projection_dim"),
    "proj.3.weight": ("proj.0.weight", "hidden_size"),
    "latents": ("proj_in.weight", "hidden_size"),
}
"""Kinds of adapters (plain, full face and Plus), each told by a weight of its projection. Then come
the weight that is applied to what the image encoder makes, and the encoder's name for its size."""


@dataclass(frozen=True)
class IpAdapter:
    """The file of an adapter, in a folder or on the hub."""

    where: str
    """The folder, or the hub id."""
    file: str
    """The path of the weights in it."""

    def __str__(self) -> str:
        return f"{self.where}/{self.file}"

    def check(self) -> None:
        """Check the adapter if it is on this machine. Only the header of its file is read.

        Raises:
            TeacherError: the adapter or its image encoder is missing, or the adapter is of a kind
                that cannot be used.
        """
        if local_folder(self.where) is not None:
            self._takes()
            if not any(self._encoders()):
                raise self._no_encoder()

    def attach(self, image: Any, scale: float, pipeline: Any) -> tuple[Picture, str]:
        """Add the adapter to the network of a diffusers pipeline, and encode a picture for it.

        The network then takes the rows of the picture as ``image_embeds``.

        Args:
            image: what ``read_picture`` returned.
            scale: the factor of the picture's attention, as in ``set_ip_adapter_scale``.
            pipeline: the pipeline, on the CPU.

        Returns:
            The picture, and one line that says where it enters.

        Raises:
            TeacherError: the adapter or its image encoder is missing, or is for another model.
        """
        from safetensors.torch import load_file

        encoder = self._load_encoder(*self._takes())
        weights, network = load_file(self._path), pipeline.unet
        state: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
        for key, weight in weights.items():
            part, _, name = key.partition(".")
            state.setdefault(part, {})[name] = weight
        self._check_fit(state["ip_adapter"], network)
        pipeline.register_modules(image_encoder=encoder)
        try:
            pipeline.load_ip_adapter(
                state, None, None, image_encoder_folder=None, low_cpu_mem_usage=False
            )
        # Missing weights and wrong shapes raise errors of many classes.
        except Exception as error:
            said = " ".join(str(error).split())[:200]  # torch's message has several lines
            raise TeacherError(f"{KEY}: cannot load {self}: {said}") from error
        pipeline.set_ip_adapter_scale(scale)
        with torch.no_grad():
            # Without a picture, then with it, as in guidance.
            (encoded,) = pipeline.prepare_ip_adapter_image_embeds(image, None, "cpu", 1, True)
            (rows,) = network.encoder_hid_proj([encoded.to(network.dtype)])
        # The rows are the same in every step. So they are projected once, and not in the network.
        network.encoder_hid_proj = nn.Identity()
        withheld, shown = rows[:, 0].float().split(1)
        layers = len(state["ip_adapter"]) // 2
        return Picture(shown, withheld), (
            f"enters by {self} at {scale:g}: {shown.shape[1]} image tokens in {layers} layers"
        )

    @cached_property
    def _path(self) -> Path:
        if (path := self._get(self.file)) is None:
            raise TeacherError(
                f"{KEY}: {self.where} has no {self.file}; give the path of an adapter's {SAFE} file"
            )
        return path

    def _takes(self) -> tuple[str, int]:
        """Return what the adapter takes of an image encoder: the name of its size, and the size."""
        from safetensors import safe_open

        keys = list(read_header(KEY, self._path))
        for mark, (entry, size) in _KINDS.items():
            if f"image_proj.{mark}" in keys:
                with safe_open(self._path, framework="pt") as file:
                    return size, file.get_slice(f"image_proj.{entry}").get_shape()[1]
        what = f"not an IP-Adapter: it has weights such as {keys[0] if keys else 'none'!r}"
        if any(key.startswith("image_proj.") for key in keys):
            what = "an IP-Adapter that takes no picture, such as a FaceID, which takes a face"
        raise TeacherError(f"{KEY}: {self} is {what}; {AUTHORS} has adapters for pictures")

    def _check_fit(self, layers: dict[str, Tensor], network: Any) -> None:
        """Check that the adapter is for ``network``. diffusers would ignore layers left over."""
        asked = int(network.config.cross_attention_dim)
        found = next((w.shape[1] for key, w in layers.items() if key.endswith("to_k_ip.weight")), 0)
        count = sum(not name.endswith("attn1.processor") for name in network.attn_processors)
        if (len(layers), found) != (2 * count, asked):
            raise TeacherError(
                f"{KEY}: {self} has {len(layers) // 2} layers for {found} values per token, and "
                f"this teacher has {count} for {asked} (Stable Diffusion 1 has 16 for 768, XL 70 "
                "for 2048); give an adapter that was trained on such a model"
            )

    @property
    def _beside(self) -> str:
        return PurePosixPath(self.file).parent.as_posix()

    def _encoders(self) -> Iterator[tuple[str, Path]]:
        """Return the folders with an image encoder, each as a path in ``where`` and as it is here.

        That beside the adapter comes first.
        """
        for folder in dict.fromkeys((self._beside, *_ELSEWHERE)):
            if (config := self._get(f"{folder}/{ENCODER}/config.json")) is not None:
                yield f"{folder}/{ENCODER}", config.parent

    def _load_encoder(self, size: str, asked: int) -> Any:
        """Load the first image encoder that makes what the adapter takes."""
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        kind: Any = CLIPVisionModelWithProjection  # its annotations are too narrow
        makes = []
        for place, folder in self._encoders():
            found = getattr(CLIPVisionConfig.from_pretrained(folder), size)
            makes.append(f"{place} makes {found}")
            if found != asked:
                continue
            if self._get(f"{place}/model{SAFE}") is None:
                raise self._no_encoder(f"{place}/model{SAFE}")
            try:
                # In float32, as it runs once and on the CPU.
                part, info = kind.from_pretrained(
                    folder,
                    use_safetensors=True,
                    dtype=torch.float32,
                    output_loading_info=True,
                )
                if lacking := sorted(info["missing_keys"]):
                    raise ValueError(f"it lacks {len(lacking)} weights, such as {lacking[0]}")
            # Errors of safetensors and shapes have no closer common base class.
            except Exception as error:
                raise TeacherError(
                    f"{KEY}: cannot load {place} of {self.where}: {reason(error)}"
                ) from error
            return part.eval()
        if not makes:
            raise self._no_encoder()
        raise TeacherError(
            f"{KEY}: {self} takes {asked} values from its image encoder, and {', '.join(makes)}; "
            f"put the encoder that it was trained with beside it, in a folder {ENCODER}"
        )

    def _no_encoder(self, missing: str | None = None) -> TeacherError:
        missing = missing or f"{self._beside}/{ENCODER}/config.json"
        return TeacherError(
            f"{KEY}: {self} has no image encoder beside it: {self.where} has no {missing}; copy "
            f"the folder {ENCODER} of {AUTHORS}"
        )

    def _get(self, name: str) -> Path | None:
        """Return the path of a file, after downloading it if need be, or ``None`` without it."""
        folder = local_folder(self.where)
        if folder is not None:
            return file if (file := folder / name).is_file() else None
        from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

        cached = try_to_load_from_cache(self.where, name)
        if isinstance(cached, str):
            return Path(cached)
        if name not in self._sizes:
            return None
        if name.endswith(SAFE):
            files, at = {name: self._sizes[name]}, [PurePosixPath(name).parent.as_posix()]
            print(in_words(self.where, files, at, constants.HF_HUB_CACHE), file=sys.stderr)
        try:
            return Path(hf_hub_download(self.where, name))
        except Exception as error:
            raise self._out_of_reach(error) from error

    @cached_property
    def _sizes(self) -> dict[str, int]:
        try:
            return Listing.of(self.where).sizes
        except Exception as error:  # errors of the hub have no closer common base class
            raise self._out_of_reach(error) from error

    def _out_of_reach(self, error: Exception) -> TeacherError:
        from huggingface_hub import constants, errors

        way = way_out(self.where, error)
        gone = isinstance(error, errors.RepositoryNotFoundError)
        if gone and not isinstance(error, errors.GatedRepoError):
            way = (
                f"{constants.ENDPOINT} has no such repository, or it is private (set HF_TOKEN), "
                f"and there is no such file here; {AUTHORS} has adapters"
            )
        return TeacherError(f"{KEY}: cannot get {self.where!r} from the hub: {way}")


def find_adapter(text: str, usual: str) -> IpAdapter:
    """Return the adapter that ``text`` means.

    Args:
        text: a folder or a hub id with the folders of ``AUTHORS``, or a file in either.
        usual: the path of the file, if ``text`` gives none.

    Raises:
        TeacherError: there is no such file or folder, or the file is a pickle.
    """
    path = expanded(text)
    if path.suffix in PICKLES:
        read_header(KEY, path)  # refuses them
    if path.is_dir():
        return IpAdapter(str(path), usual)
    if path.is_file():
        path = path.absolute()
        return IpAdapter(str(path.parent.parent), f"{path.parent.name}/{path.name}")
    owner, *rest = text.split("/", 2)
    on_hub = bool(rest) and local_folder(f"{owner}/{rest[0]}") is None
    if not on_hub or (len(rest) == 2 and path.suffix != SAFE):
        raise TeacherError(
            f"{KEY}: no file or folder {text!r}; give a folder with the files of {AUTHORS}, the "
            f"{SAFE} file of an adapter, or a hub id (owner/name, and after it the file's path)"
        )
    return IpAdapter(f"{owner}/{rest[0]}", rest[1] if len(rest) == 2 else usual)


def read_picture(name: str) -> Any:
    """Read a picture as ``diffusers.utils.load_image`` does: upright and in RGB, without alpha.

    Raises:
        TeacherError: the file does not exist, or is not a picture that can be read.
    """
    from PIL import Image, ImageOps

    path = expanded(name)
    if not path.is_file():
        raise TeacherError(f"teacher.image: no file {name!r}; give a picture, such as owl.png")
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    # Damaged pictures raise errors of many classes.
    except Exception as error:
        raise TeacherError(
            f"teacher.image: cannot read {name}: {reason(error)}; give a complete PNG, JPEG or "
            "WebP file"
        ) from error
