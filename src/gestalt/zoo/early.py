"""Checks of the names of other people's models, before the library of their kind is imported: missing files, folders and names.

A kind's own ``check`` calls the one here first, so that a mistake has one message.
"""

import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from gestalt.encoders.timm_names import is_listed, unknown_guest
from gestalt.encoders.whole import check_whole
from gestalt.support.names import suggestion

DESCRIPTION = "open_clip_config.json"
CONFIG = "config.json"


def check_guest(kind: str, name: str) -> None:
    """Check what can be checked by the name ``kind:name`` alone.

    Raises:
        ValueError: no such file, folder or model.
    """
    CHECKS[kind](name)


def check_clippy(name: str) -> None:
    """Check that the checkpoint exists and is whole."""
    if not Path(name).is_file():
        raise ValueError(f"zoo:clippy:{name}: file not found; the checkpoint is clippy_5k.pt of kahnchana/clippy's release v1.0")
    check_whole(Path(name))


def check_hf(name: str) -> None:
    """Check that a folder has a configuration, or that the name can be one of the hub."""
    folder = Path(name)
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise ValueError(f"hf:{name}: no {CONFIG} in the folder; give a folder or a repository of transformers")
        _check_weights(folder, "model.safetensors", "pytorch_model.bin")
    elif not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise ValueError(f"hf:{name}: no such folder, and not a name of the hub; give a folder of transformers, or ORG/NAME")


def check_open_clip(name: str) -> None:
    """Check that a folder has open_clip's configuration, or that the architecture is one of open_clip's."""
    folder = Path(name)
    if folder.is_dir():
        if not (folder / DESCRIPTION).is_file():
            raise ValueError(f"open_clip:{name}: the folder has no {DESCRIPTION}; name one that open_clip saved a model in")
        _check_weights(folder, "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    elif not name.startswith("hf-hub:") and not _is_architecture(name.partition(":")[0]):
        raise ValueError(unknown_architecture(name))


def unknown_architecture(name: str) -> str:
    """Return the message that refuses ``open_clip:NAME``."""
    known = [path.stem for path in _architectures().glob("*.json")]
    hint = suggestion(name.partition(":")[0], known, count=3)
    return f"open_clip:{name}: open_clip has no such architecture, and there is no such folder; {hint}".rstrip("; ")


def check_python(name: str) -> None:
    """Check that a name has a module that can be looked for, and a factory; nothing is imported."""
    module, _, factory = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), factory)):
        raise ValueError(f"python:{name}: expected python:PACKAGE.MODULE:FACTORY, such as python:my_package.models:radio")
    _see_working_directory()
    top = module.partition(".")[0]
    if top not in sys.modules and find_spec(top) is None:
        raise ValueError(f"python:{name}: no module {top} is installed or lies in {Path.cwd()}")


def check_timm(name: str) -> None:
    """Check that timm's files have the name of the architecture; folders and repositories name it in their configuration."""
    if Path(name).is_dir():
        _check_weights(Path(name), "model.safetensors", "pytorch_model.bin")
    elif not name.startswith("hf-hub:") and not is_listed(name.partition(".")[0]):
        raise ValueError(unknown_guest(name))


CHECKS: dict[str, Callable[[str], None]] = {
    "clippy": check_clippy,
    "hf": check_hf,
    "open_clip": check_open_clip,
    "python": check_python,
    "timm": check_timm,
}
"""Kind of model to the check of a name; those of ``runs/names.py``."""


def _check_weights(folder: Path, *names: str) -> None:
    """Check that those of the files of weights that are in the folder are whole."""
    for file in (folder / name for name in names):
        if file.is_file():
            check_whole(file)


def _is_architecture(name: str) -> bool:
    return bool(name) and (_architectures() / f"{name}.json").is_file()


def _architectures() -> Path:
    """Return open_clip's folder of configurations."""
    package = find_spec("open_clip")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "model_configs"


def _see_working_directory() -> None:
    """Let modules of the working directory be imported, after all others, as ``python -m`` does."""
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))
