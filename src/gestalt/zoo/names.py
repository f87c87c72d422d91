"""The names of external models, checked before the library of their kind is imported: missing
files, folders and names.
"""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

from gestalt.encoders.timm_names import is_listed, nearest_models, open_clip_description


def check_name(kind: str, name: str) -> None:
    """Check what can be checked by the name ``kind:name`` alone.

    Raises:
        ValueError: no such file, folder or model.
    """
    path, complaint = Path(name), ""
    if kind == "clippy" and not path.is_file():
        complaint = (
            "file not found; the checkpoint is clippy_5k.pt of kahnchana/clippy's release v1.0"
        )
    elif kind == "hf" and path.is_dir():
        if not (path / "config.json").is_file():
            complaint = (
                "no config.json in the folder; give a folder or a repository of transformers"
            )
    elif kind == "hf" and not re.fullmatch(r"(?!\.)[\w.-]+(/[\w.-]+)?", name):
        complaint = (
            "no such folder, and not a name of the hub; give a folder of transformers, or ORG/NAME"
        )
    elif kind == "open_clip" and not name.startswith("hf-hub:"):
        open_clip_description(name)
    elif (
        kind in ("classifier", "timm")
        and not path.is_dir()
        and not name.startswith("hf-hub:")
        and not is_listed(name.partition(".")[0])
    ):
        complaint = f"timm has no such model; {nearest_models(name)}".rstrip("; ")
    elif kind == "python":
        complaint = _python_complaint(name)
    if complaint:
        raise ValueError(f"{kind}:{name}: {complaint}")


def _python_complaint(name: str) -> str:
    """Look for the module without importing it; those of the working directory count, after all
    others, as with ``python -m``.
    """
    module, _, factory = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), factory)):
        return "expected python:PACKAGE.MODULE:FACTORY, such as python:my_package.models:radio"
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))
    top = module.partition(".")[0]
    found = top in sys.modules or find_spec(top) is not None
    return "" if found else f"no module {top} is installed or lies in {Path.cwd()}"
