"""Checks before a model is loaded: the packages that ONNX files need, and the folder to
write.  Nothing heavy is imported.
"""

from importlib.util import find_spec
from pathlib import Path

from gestalt.config.schema import ConfigError

ONNX = ("onnx", "onnxscript", "onnxruntime")
"""The model, its writer, and the runtime that checks what was written."""


def check_onnx() -> None:
    """Check that the packages of ``ONNX`` are installed; a ConfigError names those that are not,
    and the extra.
    """
    missing = [name for name in ONNX if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--onnx: needs {', '.join(missing)}; install the extra: pip install "
            "'gestalt-grouping[onnx]'"
        )


def check_free(folder: Path) -> None:
    """Check that a folder is missing or empty.

    Raises:
        ConfigError: it holds something, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"--to {folder}: exists and is not an empty folder; name another, or remove it"
        )
