"""The names of external models, checked before the library of their kind is imported: missing
files, folders and names.
"""

import re
from pathlib import Path

from gestalt.encoders.timm_names import is_listed, nearest_models, open_clip_description
from gestalt.support.plugins import code_complaint, search_here


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
        search_here()
        complaint = code_complaint(f"python:{name}")
    if complaint:
        raise ValueError(f"{kind}:{name}: {complaint}")
