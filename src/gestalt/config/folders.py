"""Find the folders of experiments and runs, and the YAML file that a word names."""

from importlib import resources
from pathlib import Path

from gestalt.support.names import is_path, nearest
from gestalt.support.typed import ConfigError

EXPERIMENTS = Path(str(resources.files("gestalt"))) / "experiments"

LOGS = Path("lightning_logs")  # under the working directory

RESERVED = ("ablations", "data", "pretrained", "surveys", "zoo")
"""Folders in ``LOGS`` that do not belong to an experiment."""


def find_yaml(folder: Path, name: str, *, kind: str) -> Path:
    """Return the file of an experiment, a scale or a grid.

    Args:
        folder: folder of the shipped files.
        name: the stem of a shipped file, or the path of another file, relative to the working
            directory.
        kind: kind of the word, for messages: experiment, --scale or grid.

    Raises:
        ConfigError: the file does not exist, and the message suggests the nearest name; or the name
            cannot be that of a folder.
    """
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if not is_path(name):
        if name not in known:
            hint = nearest(name, known)
            if Path(f"{name}.yaml").is_file():
                hint = f"for your own file write ./{name}.yaml; {hint}"
            raise ConfigError(f"{kind} {name}: no {folder.name}/{name}.yaml; {hint}")
        return folder / f"{name}.yaml"
    path = Path(name).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"{kind} {name}: {path.absolute()}: not found; give the path of a YAML file, or choose "
            f"one of {', '.join(known)}"
        )
    if path.stem.startswith(".") or not path.stem.isprintable():
        raise ConfigError(
            f"{kind} {name}: a folder for its runs cannot be called {path.stem!r}; rename the file"
        )
    return path
