"""Finding the files of a sentence-transformers model: in a folder, a package or on the hub."""

import importlib.metadata
import importlib.util
from pathlib import Path

from gestalt.encoders.state_dicts import cause
from gestalt.encoders.weights import reaching_hub
from gestalt.support.typed import NotThere

PACKAGE = "package:"
LISTING = "modules.json"
"""The file at the root of every sentence-transformers model."""

OTHER_FORMATS = ["onnx/*", "openvino/*", "*.onnx", "*.ot", "*.h5", "*.msgpack", "*.gguf"]


def find_model(model: str) -> tuple[Path, str]:
    """Return a model's folder on this machine, and where it came from, for messages; only a hub
    name may be downloaded.

    Raises:
        ValueError: not found.
    """
    if model.startswith(PACKAGE):
        return _find_in_package(model.removeprefix(PACKAGE))
    folder = Path(model).expanduser()
    if folder.is_dir():
        source = f"folder {folder}"
    elif folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise NotThere(
            f"text.model: folder {folder.absolute()} not found. Give a folder, a hub name "
            f"(OWNER/NAME) or {PACKAGE}NAME"
        )
    else:
        folder, source = _find_on_hub(model)
    if not (folder / LISTING).is_file():
        raise ValueError(
            f"text.model {model!r}: the folder {folder} holds no {LISTING}: it is not a "
            "sentence-transformers model, or incomplete"
        )
    return folder, source


def _find_in_package(package: str) -> tuple[Path, str]:
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    if not places:
        raise NotThere(
            f"text.model: Python has no package {package!r} (looked in the environment of this "
            f"interpreter). Install it (pip install {package.replace('_', '-')}), or give a folder "
            "or a hub name"
        )
    listings = [listing for place in places for listing in Path(place).rglob(LISTING)]
    if len(listings) != 1:
        raise ValueError(
            f"text.model: the package {package!r} holds {len(listings)} folders with {LISTING} in "
            f"{', '.join(places)}; expected one"
        )
    try:
        version = f" {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:  # the distribution has another name
        version = ""
    return listings[0].parent, f"package {package}{version}"


def _find_on_hub(name: str) -> tuple[Path, str]:
    """Download the files that the cache lacks; use the cached copy if the hub cannot be reached or
    HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import constants, snapshot_download

    try:
        with reaching_hub() as unreachable:
            folder = Path(snapshot_download(name, ignore_patterns=[*OTHER_FORMATS, "*.bin"]))
            if not all(
                any(place.glob("*.safetensors")) for place in (folder, *folder.glob("*_Dense"))
            ):
                # older repositories hold *.bin only
                folder = Path(snapshot_download(name, ignore_patterns=OTHER_FORMATS))
    except Exception as error:  # the hub's client: no network, proxy, unknown name, gated model
        raise NotThere(
            f"text.model {name!r} was not found: no folder {Path(name).absolute()}, no copy in the "
            f"cache {constants.HF_HUB_CACHE}, and "
            f"{unreachable or f'{constants.ENDPOINT} answered'}: {cause(error)}. With network: hf "
            f"download {name}. Without: copy its folder here and set text.model=FOLDER, or install "
            "a package:NAME"
        ) from error
    return folder, f"hub {name} at {folder.name}"
