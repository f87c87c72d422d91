"""Build the towers of a configuration: those of this package, of installed packages, or of code of
one's own.
"""

from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.utils import _pair

from gestalt.aggregation import build_aggregation, pooled_width
from gestalt.encoders.boundary import check_boundary
from gestalt.encoders.dense_model import tokens_of
from gestalt.encoders.image import ImageTower
from gestalt.encoders.inits import Channels, check_init
from gestalt.encoders.keys import Image, Text
from gestalt.encoders.text import TextTower
from gestalt.encoders.weights import WeightsFile, WeightsOrigin, load_checkpoint
from gestalt.support.files import file_hash
from gestalt.support.plugins import OTHERS, in_one_line
from gestalt.tables import IMAGE_TOWERS, TEXT_TOWERS
from gestalt.tokens import Features, Pair, Tokens


def build_image_tower(image: Image) -> ImageTower:
    """Build an image tower.

    Args:
        image: its configuration; ``init`` is a word or a timm tag, ``weights`` a file in place of
            the init's own.  Position embeddings are made for square images of ``eval_size``; other
            sizes interpolate them.

    Raises:
        ValueError: the tower cannot be built; the message names the key.
    """
    build = IMAGE_TOWERS[image.family]
    if image.family not in IMAGE_TOWERS.built_in:
        return build_own_image_tower(image, build)
    tower: ImageTower = build(image)
    return tower


def build_text_tower(text: Text, *, weights: bool = True) -> TextTower:
    """Build a text tower; fresh weights are drawn from torch's global generator, which the caller
    seeds.

    Args:
        text: its configuration.
        weights: False where a checkpoint's weights follow; the model's own are then not read.

    Raises:
        ValueError: a size that the family lacks or needs, or a model that is not found; or a tower
            of one's own that cannot be built, run or trained as the configuration asks.
    """
    build, said = TEXT_TOWERS[text.family], f"text.family={text.family}"
    own = text.family not in TEXT_TOWERS.built_in
    tower: TextTower
    if own:
        text = text if weights else replace(text, init="random")
        tower = make(build, text, said=said, kind=TextTower)
        tower.origin = _origin_of(tower, text.init, said=said)
    else:
        tower = build(text, weights=weights) if text.family == "sentence" else build(text)
    if text.frozen:
        tower.freeze()
    if own:
        _settle(tower, ["a dog", "a"], said=said, aggregation=text.aggregation)
    return tower


class OwnImageTower(ImageTower):
    """A module of one's own, which ``image.family`` names, behind the interface of ``ImageTower``.

    The module is made of the configuration's ``Image``: with ``init`` "random" its weights are
    fresh, and nothing is read or downloaded, since a checkpoint's may follow; with any other word
    it reads weights itself, and sets ``origin``, a ``WeightsOrigin`` that says from where.
    ``image.weights`` loads a file into it.

    It has ``width`` (D), ``stride`` (pixels from one token to the next, a number or two, down and
    across), and ``mean`` and ``std``, three numbers each for pixels in [0, 1].  Its ``forward``
    maps normalised pixels (B, 3, H, W) to a map (B, D, h, w) or to ``Tokens``, as a pure function:
    without dropout or other draws.  If it has a parameter ``keep``, (B, K) int64 row-major indices
    of patches, it can encode these alone; its ``set_grad_checkpointing(True)`` is called for
    ``image.gradient_checkpointing``.
    """

    WIDTH = "width"

    @property
    def drops_tokens(self) -> bool:
        """True if the module's forward has a parameter ``keep``."""
        return "keep" in signature(self.trunk.forward).parameters

    def forward(self, images: Tensor | Features, keep: Tensor | None = None) -> Tokens:
        """Encode images (B, 3, H, W) uint8, or only the patches of ``keep`` (B, K) int64.

        Raises:
            ValueError: images that are not uint8, a size that does not divide into patches, or
                another number of tokens than by the stride.
        """
        assert isinstance(images, Tensor)  # ``check_features`` refuses a cache of features
        grid = self.grid(*images.shape[-2:])
        pixels = self.normalise(images)
        output = self.trunk(pixels) if keep is None else self.trunk(pixels, keep=keep)
        tokens = tokens_of(output, grid) if isinstance(output, Tensor) else output
        if keep is not None:
            return tokens._replace(grid=None)
        if tokens.parts.shape[1] != grid[0] * grid[1]:
            raise ValueError(f"{tokens.parts.shape[1]} tokens of {grid} patches, by its stride")
        return tokens._replace(grid=grid)


def make(factory: Any, *arguments: Any, said: str, kind: type[nn.Module] = nn.Module) -> Any:
    """Call a class or a function of one's own.

    Args:
        factory: the class or function.
        arguments: its arguments.
        said: what names it, for messages.
        kind: what it makes.

    Raises:
        ValueError: it raises, or makes something else.
    """
    try:
        made = factory(*arguments)
    except OTHERS as error:
        raise ValueError(f"{said}: raised {in_one_line(error)}") from error
    if not isinstance(made, kind):
        raise ValueError(f"{said}: returns a {type(made).__name__}, expected a {kind.__name__}")
    return made


def check_has(module: Any, *needed: str, said: str, page: str) -> None:
    """Check that a module has some attributes, which a page of ``docs`` describes; a ValueError
    names those that it lacks.
    """
    missing = [key for key in needed if not hasattr(module, key)]
    if missing:
        raise ValueError(
            f"{said}: its {type(module).__name__} lacks {', '.join(missing)}; docs/{page}.md says "
            "what each is"
        )


def read_numbers(module: Any, whole: str, *, said: str) -> tuple[Pair, int, Channels, Channels]:
    """Return the ``stride`` of a module, another whole number by its name, ``mean`` and ``std``; a
    ValueError refuses other values.
    """
    try:
        (down, across), number = map(int, _pair(module.stride)), int(getattr(module, whole))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{said}: stride={module.stride!r}, {whole}={getattr(module, whole)!r}: give whole "
            "numbers"
        ) from error
    channels: list[Channels] = []
    for key in ("mean", "std"):
        values = getattr(module, key)
        try:
            red, green, blue = map(float, values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{said}: {key}={values}: give three numbers") from error
        channels.append((red, green, blue))
    return (down, across), number, channels[0], channels[1]


def build_own_image_tower(image: Image, factory: Any) -> OwnImageTower:
    """Build the image tower of one's own that ``image.family`` names.

    Raises:
        ValueError: it cannot be built, run or trained as the configuration asks.
    """
    said, path = f"image.family={image.family}", image.weights
    if image.init == "random":
        check_init(image.init, backbone=image.family, weights=path)
    given = image if path is None else replace(image, init="random", weights=None)
    module = make(factory, given, said=said)
    check_has(module, "width", "stride", "mean", "std", said=said, page="contributing")
    stride, _, mean, std = read_numbers(module, "width", said=said)
    if path is None:
        origin = _origin_of(module, image.init, said=said)
    else:
        file = WeightsFile(Path(path).expanduser(), path, mean, std, None)
        load_checkpoint(module, file)
        origin = WeightsOrigin(image.init, path, file_hash(file.path))
    if image.frozen_blocks:
        check_boundary(module, image.frozen_blocks, backbone=image.family)
    tower = OwnImageTower(
        module, image, name=image.family, stride=stride, mean=mean, std=std, origin=origin
    )
    if image.subsampling:
        tower.grid(image.train_size, image.train_size)
        if image.keep_tokens < 1 and not tower.drops_tokens:
            raise ValueError(
                f"image.keep_tokens={image.keep_tokens}: {said} cannot drop tokens, since its "
                "forward has no parameter keep; choose 1.0, or image.subsampling=false"
            )
    size = image.eval_size
    pixels = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    _settle(tower, pixels, said=said, aggregation=image.aggregation)
    return tower


def _origin_of(module: Any, init: str, *, said: str) -> WeightsOrigin:
    """Return the origin of the weights that a tower was made with."""
    fresh = WeightsOrigin("random", f"{said}, fresh weights") if init == "random" else None
    origin = getattr(module, "origin", fresh)
    if not isinstance(origin, WeightsOrigin):
        raise ValueError(
            f"{said} has no origin, a WeightsOrigin that says where its weights come from; set it "
            f"where init={init} is read, or choose init=random"
        )
    return origin


def _settle(tower: Any, inputs: Any, *, said: str, aggregation: str) -> None:
    """Run a tower once as training does, on copies of its buffers, and freeze the parameters that
    the pooled vector does not depend on: DDP would wait for their gradients.

    Raises:
        ValueError: it raises, gives other shapes than it states, or draws at random, after which no
            run could be resumed exactly.
    """
    trained = [parameter for parameter in tower.parameters() if parameter.requires_grad]
    buffers = {name: buffer.clone() for name, buffer in tower.named_buffers()}
    try:
        pool = build_aggregation(aggregation, tower.width)
        state = torch.get_rng_state()
        with torch.enable_grad():
            pooled = pool(functional_call(tower, buffers, (inputs,)))
            gradients = (
                torch.autograd.grad(pooled.sum(), trained, allow_unused=True) if trained else ()
            )
    except OTHERS as error:
        raise ValueError(f"{said}: {in_one_line(error)}") from error
    expected = (2, pooled_width(aggregation, tower.width))
    if tuple(pooled.shape) != expected:
        joined = tuple(pooled.shape) == (2, 2 * tower.width)
        mend = (
            f"; give {aggregation} `beside = True` if it concatenates the summary and a pool of "
            "parts"
        )
        raise ValueError(
            f"{said}: its tokens are pooled to {(*pooled.shape,)}, expected {expected}"
            f"{mend if joined else ''}"
        )
    if not state.equal(torch.get_rng_state()):
        dropouts = [
            f"{name} is {module}"
            for name, module in tower.named_modules()
            if module.training and getattr(module, "p", 0)
        ]
        raise ValueError(
            f"{said}: draws at random in training, so that no run could be resumed exactly; set "
            f"its dropout to 0{f' ({dropouts[0]})' if dropouts else ''}, or freeze it"
        )
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
