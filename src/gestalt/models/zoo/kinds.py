"""The kinds of external models, named ``kind:name``: a row for each, which says what a name may be
and which keys of the configuration its models read.  Nothing heavy is imported.

To add one: a row here, and ``zoo/<kind>.py``, with ``open_model(name)``, which returns ``Opened``
and refuses by the model's configuration alone before weights are downloaded; or, if the towers are
ours, with ``build(name, config)`` in its place.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gestalt.config.schema import Experiment
from gestalt.encoders.inits import is_listed, nearest_models, open_clip_description
from gestalt.support.keys import Keys, Reader, words_read_by
from gestalt.support.names import nearest
from gestalt.support.plugins import code_complaint, search_here

if TYPE_CHECKING:
    from gestalt.config.trust import Places
    from gestalt.encoders.dense_model import DenseModel

DEFAULTS = (
    "data.source=scenes",
    "trainer.precision=32-true",
    "evaluation.benchmarks=[scenes]",
    "projection.order=none",
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A row of ``EXTERNAL``.

    Attributes:
        line: description, for ``gestalt list``.
        complaint: why a name means no model, as far as the name alone tells; empty if it may.
        defaults: overrides of the schema's defaults, before those of the command line; ``{name}``
            in them stands for the model's.
        of_pictures: overrides for pictures of one's own, before those of the caller.
        towers: how the overrides of keys begin that its towers are built from, beside the keys that
            scoring any external model reads.
        has_text: False if its models are vision-only.
        in_files: True if a file may name such a model: it runs no code, and no towers are built.
    """

    line: str
    complaint: Callable[[str], str]
    defaults: tuple[str, ...] = DEFAULTS
    of_pictures: tuple[str, ...] = ()
    towers: tuple[str, ...] = ()
    has_text: bool = True
    in_files: bool = True

    @property
    def reads(self) -> tuple[str, ...]:
        """How the overrides begin that scoring such a model reads; the other keys of its
        configuration are placeholders.
        """
        return (*words_read_by(Reader.EXTERNAL, Experiment), *self.towers)


class Opened(NamedTuple):
    """A model of a kind, and what only its files say.

    Attributes:
        model: with its weights.
        description: library, version and architecture, for the record.
        size: side in pixels at which it is scored by default; None: that of its configuration.
        sha256: hash of its file, if it is one file.
    """

    model: "DenseModel"
    description: Keys
    size: int | None = None
    sha256: str | None = None


def _of_clippy(name: str) -> str:
    if Path(name).is_file():
        return ""
    return "file not found; the checkpoint is clippy_5k.pt of kahnchana/clippy's release v1.0"


def _of_hf(name: str) -> str:
    if Path(name).is_dir():
        if (Path(name) / "config.json").is_file():
            return ""
        return "no config.json in the folder; give a folder or a repository of transformers"
    if re.fullmatch(r"(?!\.)[\w.-]+(/[\w.-]+)?", name):
        return ""
    return "no such folder, and not a name of the hub; give a folder of transformers, or ORG/NAME"


def _of_open_clip(name: str) -> str:
    if not name.startswith("hf-hub:"):
        open_clip_description(name)
    return ""


def _of_python(name: str) -> str:
    search_here()
    return code_complaint(f"python:{name}")


def _of_timm(name: str) -> str:
    if Path(name).is_dir() or name.startswith("hf-hub:") or is_listed(name.partition(".")[0]):
        return ""
    return f"timm has no such model; {nearest_models(name)}".rstrip("; ")


EXTERNAL = {
    "classifier": Kind(
        line=(
            "A classifier of timm read by ConSE, untrained, with ImageNet's labels: "
            "`classifier:NAME`."
        ),
        complaint=_of_timm,
        # a grid of 7 x 7, as in training, is too coarse for locations
        defaults=(
            *DEFAULTS,
            "projection.order=classifier",
            "image.subsampling=false",
            "image.eval_size=448",
            "image.aggregation=avg",
            "start=classifier:{name}",
        ),
        # chosen on a tuning split of photographs; weighs a label "background"
        of_pictures=("evaluation.prior=0.1", "evaluation.prior_offset=0.16"),
        towers=("image.aggregation=", "text.", "projection.width="),
        in_files=False,
    ),
    "clippy": Kind(
        line="The public CLIPpy checkpoint of kahnchana/clippy, named `clippy:FILE`.",
        complaint=_of_clippy,
        towers=("image.", "text.", "projection."),
        in_files=False,
    ),
    "hf": Kind(
        line="transformers' contrastive models, named `hf:FOLDER` or `hf:ORG/NAME`.",
        complaint=_of_hf,
    ),
    "open_clip": Kind(
        line=(
            "open_clip's models: `open_clip:FOLDER`, `open_clip:hf-hub:ORG/NAME` or "
            "`open_clip:ARCHITECTURE:TAG`."
        ),
        complaint=_of_open_clip,
    ),
    "python": Kind(
        line="A model of your own code, named `python:package.module:factory`.",
        complaint=_of_python,
        in_files=False,
    ),
    "timm": Kind(
        line="timm's models, vision-only, named `timm:ARCHITECTURE.TAG`.",
        complaint=_of_timm,
        has_text=False,
    ),
}

FOREIGN = {
    "open_clip:{place}": ("open_clip_config.json",),
    "hf:{place}": ("model_type",),
    "timm:{place}": ("architecture", "num_classes"),
    "clippy:{place}": ("visual.trunk.", "text.0."),
    "open_clip:ARCHITECTURE:{place}, with its architecture, such as ViT-B-32": (
        "visual.",
        "logit_scale",
    ),
    "python:PACKAGE.MODULE:FACTORY, code of yours that loads it (docs/evaluation.md)": (),
}
"""The word that opens a model that another library wrote -> how names begin that only this kind of
model has together: the names of a folder's files and of the keys in its ``config.json``, or of a
file's tensors.  The first row that fits counts.
"""


def how_to_open(place: str, names: Iterable[str] = ()) -> str:
    """Return the part of a message that says how a file or folder of another library is opened.

    Args:
        place: the file or folder.
        names: the names in it, as ``FOREIGN`` describes them; without them the word is that of code
            of the user's.
    """
    plain = [name.removeprefix("module.") for name in names]
    return next(
        f"another library's model opens as {word.format(place=place)}"
        for word, marks in FOREIGN.items()
        if all(any(name.startswith(mark) for name in plain) for mark in marks)
    )


def check_name(kind: str, name: str) -> None:
    """Check what can be checked by the name ``kind:name`` alone, before a library is imported.

    Raises:
        ValueError: an unknown kind; no such file, folder or model.
    """
    if kind not in EXTERNAL:
        raise ValueError(f"{kind}: an unknown kind of model; {nearest(kind, list(EXTERNAL))}")
    if complaint := EXTERNAL[kind].complaint(name):
        raise ValueError(f"{kind}:{name}: {complaint}")


def library_of(kind: str, name: str) -> Any:
    """Return the module that opens models of a kind, after a check of the name.

    Raises:
        ValueError: see ``check_name``.
    """
    check_name(kind, name)
    return import_module(f"gestalt.models.zoo.{kind}")


def open_external(kind: str, name: str, config: Experiment) -> Opened:
    """Open a model of a kind; ``config`` is what its towers are built from, if they are ours.

    Raises:
        ValueError: see ``check_name``; or it cannot be opened.
    """
    library = library_of(kind, name)
    ours = hasattr(library, "build")
    opened: Opened = library.build(name, config) if ours else library.open_model(name)
    return opened


def open_vision(target: str, *, places: "Places") -> "DenseModel":
    """Open the model ``kind:name`` for its image features; ``places`` may not be opened.

    Raises:
        ValueError: an unknown kind, code, a model that only a file from elsewhere names, or one
            that cannot be opened.
    """
    places.refuse("evaluation.proxy")
    kind, _, name = target.partition(":")
    # the target may come from a file
    if kind in EXTERNAL and not EXTERNAL[kind].in_files:
        raise ValueError(
            f"{target}: such a model is named on the command line alone; choose another kind of "
            "proxy model"
        )
    opened: Opened = library_of(kind, name).open_model(name)
    return opened.model.eval()
