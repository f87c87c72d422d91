"""A complete file of weights passes the check of its first and last bytes, and a truncated file does not."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gestalt.encoders.whole import check_checkpoint, check_whole

STATE = {"a": torch.arange(300.0), "b": torch.ones(2, 3)}


def written(kind: str, folder: Path) -> Path:
    path = folder / {"safetensors": "a.safetensors", "zip": "a.ckpt", "pickle": "a.pth"}[kind]
    if kind == "safetensors":
        save_file(STATE, path, metadata={"format": "pt"})
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "zip")
    return path


@pytest.mark.parametrize("kind", ["zip", "pickle", "safetensors"])
def test_a_complete_file_passes(kind: str, tmp_path: Path) -> None:
    check_whole(written(kind, tmp_path))


@pytest.mark.parametrize("kind", ["zip", "safetensors"])
@pytest.mark.parametrize("kept", [0, 1, 2, 7, 8, 100, -100, -1])
def test_a_file_that_is_cut_short_is_refused(kind: str, kept: int, tmp_path: Path) -> None:
    path = written(kind, tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        ValueError, match=r"cannot be read as a state dict: damaged, truncated, or not a file of weights; copy or download it again$"
    ):
        check_whole(path)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>", b"version https://git-lfs", b"\xff" * 64], ids=["page", "lfs", "ff"])
@pytest.mark.parametrize("name", ["a.ckpt", "a.safetensors"])
def test_a_file_of_another_type_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} cannot be read as a state dict: damaged, truncated, or not a file of weights"):
        check_whole(tmp_path / name)


def test_a_missing_file_is_named_and_a_checkpoint_s_message_names_those_beside_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.ckpt cannot be read as a state dict: No such file"):
        check_whole(tmp_path / "none.ckpt")
    (tmp_path / "last.ckpt").write_bytes(b"PK")
    (tmp_path / "best.ckpt").touch()
    with pytest.raises(ValueError, match=r"copy or download it again; in the same folder: .*best\.ckpt$"):
        check_checkpoint(tmp_path / "last.ckpt")


def test_a_file_that_torch_wrote_without_checksums_passes(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = written("zip", tmp_path)
    finally:
        torch.serialization.set_crc32_options(True)
    check_whole(path)
