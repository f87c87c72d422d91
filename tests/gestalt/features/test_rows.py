import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from gestalt.features import rows as module
from gestalt.features.rows import HEADER, RowReader, Rows, as_stored, write_shard


def values(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 2, generator=torch.Generator().manual_seed(0))


def write(rows: Rows, folder: Path, content: torch.Tensor) -> None:
    for shard in rows.missing(folder):
        span = rows.span(shard)
        write_shard(rows, folder, shard, fill=lambda given, span=span: np.copyto(given, as_stored(content[list(span)], stored=rows.stored)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Rows:
    monkeypatch.setattr(module, "SHARD", 4 * 6 * 3)
    return Rows.planned("image", 8, shape=(3, 2), stored="float32", computed="float32")


def test_rows_come_back_bit_by_bit_in_any_order_and_from_several_files(small: Rows, tmp_path: Path) -> None:
    content = values(8)
    write(small, tmp_path, content)
    assert (small.each, small.shards, small.missing(tmp_path)) == (3, 3, [])
    order = np.array([7, 0, 3, 3, 5])
    assert torch.equal(RowReader(small, tmp_path).read(order), content[order])
    assert torch.equal(pickle.loads(pickle.dumps(RowReader(small, tmp_path))).read(order), content[order])
    assert Rows.read(small.record()) == small
    assert sum(path.stat().st_size for path in tmp_path.glob("*.npy")) == small.bytes + 3 * HEADER


def test_an_interrupted_shard_leaves_no_file_and_a_damaged_shard_counts_as_missing(small: Rows, tmp_path: Path) -> None:
    def stop(given: np.ndarray) -> None:
        given[:1] = 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(small, tmp_path, 1, fill=stop)
    assert list(tmp_path.iterdir()) == []
    write(small, tmp_path, values(8))
    small.path(tmp_path, 1).write_bytes(b"cut")
    assert small.missing(tmp_path) == [1]


@pytest.mark.parametrize(("stored", "computed"), [("float32", "bfloat16"), ("float16", "float32")])
def test_rows_have_the_format_in_which_they_were_computed(stored: str, computed: str, tmp_path: Path) -> None:
    rows = Rows.planned("image", 4, shape=(3, 2), stored=stored, computed=computed)
    content = values(4).to(getattr(torch, computed))
    write(rows, tmp_path, content)
    read = RowReader(rows, tmp_path).read(np.arange(4))
    assert read.dtype == content.dtype
    torch.testing.assert_close(read, content, rtol=0, atol=0 if stored == "float32" else 2e-3)


def test_values_beyond_float16_are_refused() -> None:
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="float16 cannot hold; choose --dtype float32"):
        as_stored(torch.tensor([1e6]), stored="float16")


@pytest.mark.parametrize("shape", [(1,), (1280, 7, 7), (1025, 1024), (12345, 67890, 12)])
def test_the_array_header_has_a_fixed_size(shape: tuple[int, ...], tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**9, *shape)})
    assert (tmp_path / "x.npy").stat().st_size == HEADER
