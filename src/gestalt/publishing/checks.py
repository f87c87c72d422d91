"""The packages that ONNX files need.  Nothing heavy is imported."""

from importlib.util import find_spec

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
