"""Lightning's profilers, with their tables in a file: the log that Lightning writes them to is kept from the screen."""

from pathlib import Path

from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

PROFILERS: dict[str, type[SimpleProfiler | AdvancedProfiler | PyTorchProfiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}


def build_profiler(name: str | None, folder: Path | None) -> Profiler | None:
    """The profiler of that name, which writes ``<folder>/*profile*.txt``; None without a name, and on ranks that have no folder."""
    return None if name is None or folder is None else PROFILERS[name](dirpath=folder, filename="profile")
