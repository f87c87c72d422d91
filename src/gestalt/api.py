"""The Python API: load a model, and embed, segment and group pictures.  Lightning is not needed.

B pictures, E embedding width, K texts, D tower width, h w patch grid, H W pixels.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from os import PathLike, fspath
from typing import Any, Literal, Unpack, overload

import torch
from torch import Tensor

from gestalt.config.schema import Experiment
from gestalt.config.trust import TRUSTED, Places
from gestalt.data_modules.keys import ONLY_SCENES, only_scenes
from gestalt.data_modules.pixels.pictures import Picture, read_pictures
from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.evaluation.images import embed_images
from gestalt.measures.evaluation.pictures import BACKGROUND
from gestalt.measures.evaluation.prompts import check_texts, embed_texts
from gestalt.measures.evaluation.protocols import ImageProtocol
from gestalt.measures.grouping.engine import bottom_up
from gestalt.measures.grouping.protocol import BottomUpProtocol, grouping_protocol
from gestalt.measures.segmentation.fitting import CRF, PRIOR, Choices, MapChoices, picture_protocol
from gestalt.measures.segmentation.segmented import SegmentedImage, segment_images, similarity_maps
from gestalt.models.opening import open_target
from gestalt.models.zoo.kinds import EXTERNAL, open_vision
from gestalt.support.arguments import PATH, check_type, check_words
from gestalt.support.devices import find_device, find_dtype, keep_random_state, send
from gestalt.support.faults import Caveat

__all__ = ["Model", "Picture", "SegmentedImage", "load"]

Pictures = Picture | Sequence[Picture]
MapSize = Literal["grid", "image"]


def load(
    target: str | PathLike[str],
    device: str | torch.device | None = None,
    *,
    dtype: str | torch.dtype | None = None,
    overrides: Sequence[str] = (),
) -> "Model":
    """Load a model with its weights.

    Args:
        target: a checkpoint, the folder of a run, the name of an experiment for its latest finished
            run with default settings, an exported folder, its name on the Hugging Face hub
            (``org/name``), or an external model (``timm:vit_base_patch8_224.dino``).
        device: such as ``cpu`` or ``cuda:1``; by default the GPU, if torch can use one.
        dtype: type of the weights, such as ``bfloat16``; float32 by default.
        overrides: ``key=value`` words that change the model's configuration. Code, a calibration or
            a proxy model that a file from elsewhere names is used only if it is named here too. A
            ``classifier:`` model uses the prior that was chosen for it on a label ``background``,
            unless a word here sets the prior.

    Raises:
        ValueError: the model does not exist, its weights do not fit, this machine does not have the
            device, or ``overrides`` is a single string.

    Example:
        >>> model = gestalt.load("exported", device="cpu", overrides=["image.eval_size=64"])
        >>> model.name, model.dtype
        ('exported', torch.float32)
    """
    check_type("target", target, PATH, "the name or the path of a model")
    words = check_words("overrides", overrides, "['image.eval_size=448']")
    place, kind = find_device(device), find_dtype(torch.float32 if dtype is None else dtype)
    library, separator, _ = fspath(target).partition(":")
    if separator and library in EXTERNAL and "evaluation.prior" not in " ".join(words):
        words = [*EXTERNAL[library].of_pictures, *words]
    with keep_random_state(), hide_bars():  # building draws random weights, which are then replaced
        opened = open_target(fspath(target), overrides=words)
    return Model(
        opened.model.requires_grad_(False),
        opened.config,
        fspath(target),
        opened.origin,
        opened.identity,
        only_scenes=opened.trained is not None and only_scenes(opened.trained.data),
        _places=opened.places,
    ).to(place, dtype=kind)


@dataclass(eq=False)
class Model:
    """A model that embeds pictures, their patches and, unless it has no text tower, texts. It is in
    eval mode and computes no gradients.

    A picture is a path, a PIL image, an array (H, W, 3) or (H, W), or a tensor (3, H, W): uint8,
    uint16, or floats in [0, 1], of any size. A list, or a fourth axis, means several pictures, and
    gives several results.

    Attributes:
        encoder: the model.
        config: its configuration, with the image sizes and the protocols.
        name: name of the model as it was given.
        origin: what the name referred to; for a run, its folder, the step of its checkpoint, and
            the number of steps.
        identity: fields of a results file that identify the weights, such as ``checkpoint`` and its
            SHA-256, ``run``, ``steps`` and ``steps_planned``.
        only_scenes: True if the model was trained on synthetic scenes alone; it then warns at its
            first picture.

    Example:
        >>> model.embed_image("photo.jpg").shape
        torch.Size([32])
        >>> model.embed_image(["photo.jpg", "photo.jpg"]).shape
        torch.Size([2, 32])
    """

    encoder: DenseModel = field(repr=False)
    config: Experiment = field(repr=False)
    name: str
    origin: str
    identity: dict[str, Any] = field(repr=False)
    only_scenes: bool = False
    _places: Places = field(default=TRUSTED, repr=False)
    _warned: bool = field(default=False, init=False, repr=False)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self._weight.dtype

    @property
    def _weight(self) -> Tensor:
        """One of the weights.  For a model without weights, such as fixed filters, one of the
        buffers.
        """
        return next(chain(self.encoder.parameters(), self.encoder.buffers()))

    def to(
        self, device: str | torch.device | None = None, *, dtype: str | torch.dtype | None = None
    ) -> "Model":
        """Move the weights, in place, and return the model.

        Example:
            >>> model.to("cpu", dtype="float32").device
            device(type='cpu')
        """
        self.encoder.to(
            find_device(self.device if device is None else device),
            find_dtype(self.dtype if dtype is None else dtype),
        )
        return self

    def embed_image(self, images: Pictures) -> Tensor:
        """Embed pictures as squares of ``image.eval_size``: (E,), or (B, E) of several; float32,
        L2-normalised.

        Example:
            >>> model.embed_image("photo.jpg").norm().round(decimals=4)
            tensor(1.)
        """
        pictures, single = self._read(images)
        vectors = embed_images(
            self.encoder,
            pictures,
            protocol=ImageProtocol(name="square", input_size=self.config.image.eval_size),
        )
        return vectors[0] if single else vectors

    def embed_text(self, texts: str | Sequence[str]) -> Tensor:
        """Embed texts as they are written: (E,), or (K, E) of several; float32, L2-normalised.

        Example:
            >>> (model.embed_text(["a dog", "grass"]) @ model.embed_image("photo.jpg")).shape
            torch.Size([2])
        """
        given = check_texts("texts", [texts] if isinstance(texts, str) else texts)
        vectors = embed_texts(self.encoder, given)
        return vectors[0] if isinstance(texts, str) else vectors

    @torch.no_grad()
    def forward_intermediates(
        self,
        x: Pictures,
        indices: int | list[int] | None = None,
        *,
        norm: bool = False,
        output_fmt: Literal["NCHW", "NLC"] = "NCHW",
        intermediates_only: bool = False,
        **options: Any,
    ) -> Any:
        """Return features of the image tower's blocks, with timm's method of the same name.

        Args:
            x: pictures of one size, a multiple of the patch size; they are not resized, and are
                normalised here.
            indices: the last n blocks, the blocks of a list, or all.
            norm: apply the last norm to each.
            output_fmt: ``NCHW``, maps (B, D, h, w), or ``NLC``, tokens (B, N, D).
            intermediates_only: return the list without the final features.
            options: additional options of timm's method, such as ``return_prefix_tokens``.

        Raises:
            ValueError: the size of the pictures is not allowed, timm refuses an option, or the
                tower is not from timm.

        Example:
            >>> images = torch.zeros(1, 3, 64, 96)
            >>> maps = model.forward_intermediates(images, indices=2, intermediates_only=True)
            >>> [tuple(x.shape) for x in maps]
            [(1, 32, 8, 12), (1, 32, 8, 12)]
        """
        pictures = self._read(x)[0]
        if len({picture.shape for picture in pictures}) > 1:
            raise ValueError(
                "forward_intermediates: the pictures have several sizes; resize them to one"
            )
        self.encoder.grid(*pictures[0].shape[1:])
        trunk, pixels = self.encoder.trunk_input(torch.stack(pictures))
        try:
            return trunk.forward_intermediates(  # type: ignore[operator]
                pixels,
                indices=indices,
                norm=norm,
                output_fmt=output_fmt,
                intermediates_only=intermediates_only,
                **options,
            )
        # a wrong value, or an option that this tower does not have
        except (AssertionError, TypeError) as error:
            raise ValueError(f"forward_intermediates: {' '.join(str(error).split())}") from error

    @overload
    def similarity(  # type: ignore[overload-overlap]  # as segment
        self,
        image: Picture,
        texts: Sequence[str],
        *,
        size: MapSize = "grid",
        **choices: Unpack[MapChoices],
    ) -> Tensor: ...
    @overload
    def similarity(
        self,
        image: Sequence[Picture],
        texts: Sequence[str],
        *,
        size: MapSize = "grid",
        **choices: Unpack[MapChoices],
    ) -> list[Tensor]: ...
    def similarity(
        self,
        image: Pictures,
        texts: Sequence[str],
        *,
        size: MapSize = "grid",
        **choices: Unpack[MapChoices],
    ) -> Tensor | list[Tensor]:
        """Compare every patch with every text.

        Args:
            image: pictures.
            texts: K texts.
            size: ``grid``, maps (K, h, w), or ``image``, up-sampled bilinearly to (K, H, W).
            choices: ``protocol``, ``reading`` and ``templates`` of ``segment``; by default texts
                are compared as they are written.

        Returns:
            Cosines, float32; a list of them for several pictures.

        Example:
            >>> model.similarity("photo.jpg", ["a dog", "grass"], size="image").shape
            torch.Size([2, 33, 50])
        """
        if size not in ("grid", "image"):
            raise ValueError(f"similarity: size={size}: choose grid or image")
        if "threshold" in choices:
            raise ValueError("similarity takes no threshold; leave it out")
        pictures, single = self._read(image)
        with_defaults: MapChoices = {"templates": "{}", **choices}
        chosen = segmentation_protocol(self, **with_defaults)
        maps = similarity_maps(
            self.encoder,
            pictures,
            texts=check_texts("texts", texts),
            protocol=chosen,
            full_size=size == "image",
        )
        return maps[0] if single else maps

    @overload
    def segment(  # type: ignore[overload-overlap]  # a string is a sequence of strings, and one picture
        self, image: Picture, labels: Sequence[str], **choices: Unpack[Choices]
    ) -> SegmentedImage: ...
    @overload
    def segment(
        self, image: Sequence[Picture], labels: Sequence[str], **choices: Unpack[Choices]
    ) -> list[SegmentedImage]: ...
    def segment(
        self, image: Pictures, labels: Sequence[str], **choices: Unpack[Choices]
    ) -> SegmentedImage | list[SegmentedImage]:
        """Assign to every pixel the label that is most similar to its patch.

        Args:
            image: pictures.
            labels: two or more, or one with a threshold.
            choices: ``threshold``: pixels whose best score, a cosine in most protocols, is below it
                have no label (255, or 65535 with more than 255 labels); it replaces a prior.
                ``protocol``, such as ``sclip-336``. ``reading``, a dense inference method such as
                ``naclip``. ``templates``, sentences with ``{}`` for the label, or a published set
                such as ``openai_80``. The defaults are those of the model's configuration.

        Warns about labels that the text tower cannot distinguish, of which the first gets all
        pixels, and about labels that it truncates.

        Raises:
            ValueError: a label is repeated, a choice is unknown, or the model has no text tower.

        Example:
            >>> result = model.segment("photo.jpg", ["dog", "grass"])
            >>> result.map.shape, sorted(result.areas)
            (torch.Size([33, 50]), ['dog', 'grass'])
        """
        pictures, single = self._read(image)
        names = check_texts("labels", labels)
        if len(set(names)) < len(names):
            raise ValueError(f"labels={names}: a label is repeated; name each once")
        chosen = segmentation_protocol(self, **choices)
        if len(names) == 1 and chosen.background != "threshold":
            raise ValueError(
                f"labels={names}: every pixel would have the only label; name another, or give a "
                "threshold"
            )
        if PRIOR in chosen.left_out and BACKGROUND in names:
            warnings.warn(
                f"threshold={chosen.threshold} takes the place of the prior of the label "
                f"{BACKGROUND}, which is now a label like any other; leave the threshold out to "
                "use the prior",
                Caveat,
                stacklevel=2,
            )
        if CRF in chosen.left_out:
            warnings.warn(
                f"threshold={chosen.threshold} switches off {CRF}; leave the threshold out to "
                "use the CRF",
                Caveat,
                stacklevel=2,
            )
        segmented = segment_images(self.encoder, pictures, labels=names, protocol=chosen)
        return segmented[0] if single else segmented

    @overload
    def group(  # type: ignore[overload-overlap]  # as segment
        self, image: Picture, groups: int = 8, *, protocol: str | None = None
    ) -> Tensor: ...
    @overload
    def group(
        self, image: Sequence[Picture], groups: int = 8, *, protocol: str | None = None
    ) -> list[Tensor]: ...
    def group(
        self, image: Pictures, groups: int = 8, *, protocol: str | None = None
    ) -> Tensor | list[Tensor]:
        """Group the patches of each picture by their features alone, without text.

        Args:
            image: pictures.
            groups: the maximum number of groups, 1 to 254.
            protocol: such as ``kmeans_square``; by default the model's.

        Returns the group of each pixel, (H, W) uint8 on the CPU; a list of them for several
        pictures.

        Example:
            >>> model.group("photo.jpg", 3).unique().numel() <= 3
            True
        """
        pictures, single = self._read(image)
        chosen = partition_protocol(self, groups, name=protocol)
        maps = [one.groups for one in bottom_up(self.encoder, pictures, chosen)]
        return maps[0] if single else maps

    def _read(self, images: Pictures) -> tuple[list[Tensor], bool]:
        """Return pictures on the model's device, and True if a single picture was given instead of
        a list. Warns once if the model was trained only on scenes.
        """
        if self.only_scenes and not self._warned:
            self._warned = True
            warnings.warn(ONLY_SCENES, Caveat, stacklevel=3)
        pictures, single = read_pictures(images)
        return [send(picture, self.device) for picture in pictures], single


def segmentation_protocol(model: Model, **choices: Unpack[Choices]) -> TopDownProtocol:
    """Return the protocol with which a model segments pictures under a user's choices, and attach
    the proxy model of its inference method.
    """
    evaluation = model.config.evaluation
    if "evaluation.benchmarks" in model._places.words:  # pictures do not need files of benchmarks
        evaluation = replace(evaluation, benchmarks=[])
    return picture_protocol(
        evaluation,
        model.encoder,
        size=model.config.image.eval_size,
        open_vision=partial(open_vision, places=model._places),
        **choices,
    )


def partition_protocol(model: Model, groups: int, *, name: str | None = None) -> BottomUpProtocol:
    """Return the protocol with which a model groups pictures; by default that of its
    configuration.
    """
    check_type("protocol", name, str | None, "the name of a protocol")
    return grouping_protocol(
        name or model.config.evaluation.grouping_protocol,
        size=model.config.image.eval_size,
        groups=groups,
        stride=model.encoder.patch_stride,
    )


@contextmanager
def hide_bars() -> Iterator[None]:
    """Within the context, transformers shows no progress bar."""
    from transformers.utils import logging

    bars: Any = logging
    before = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            bars.enable_progress_bar()
