"""Lightning's profilers, which write their tables to a file."""

from pathlib import Path

from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

PROFILERS: dict[str, type[SimpleProfiler | AdvancedProfiler | PyTorchProfiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}


def build_profiler(name: str | None, folder: Path | None) -> Profiler | None:
    """Build a profiler by name that writes ``<folder>/*profile*.txt``; None without a name or, on other ranks, without a folder."""
    return None if name is None or folder is None else PROFILERS[name](dirpath=folder, filename="profile")
