"""A corpus behind a server that stalls, fails, lacks a file or cannot send ranges: each has its own
end, within a limit.
"""

import gzip
import io
import re
import time
from base64 import b64encode
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gestalt.data_modules.corpora import remote
from gestalt.data_modules.sources import parquet
from gestalt.data_modules.sources.parquet import hash_column
from tests.data_modules import files
from tests.data_modules.files import picture
from tests.data_modules.server import serving
from tests.data_modules.tar_files import jpeg, write_shards
from tests.gestalt.command import refused, succeed
from tests.gestalt.tiny_model import WORDS


def parquet_of(*captions):
    file = io.BytesIO()
    pq.write_table(pa.table({"image": [picture(0), picture(1)], "caption": captions}), file)
    return file.getvalue()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
    with serving() as running:
        for path in write_shards(tmp_path / "tars", [2, 2]).glob("*.tar"):
            running.files[path.name] = path.read_bytes()
        running.files["a.parquet"] = parquet_of("one", "two")
        yield running


def opened(server, cache, name, **options):
    source = "parquet" if name.endswith(".parquet") else "tars"
    return files.opened(source, f"{server.url}/{name}", cache=str(cache), **options)


def test_tars_and_parquet_are_read_by_range(server, tmp_path):
    source = opened(server, tmp_path, "s-000{0,1}.tar")
    assert [source.read(index).image for index in range(4)] == [jpeg(number) for number in range(4)]
    assert opened(server, tmp_path, "a.parquet").read(1).image == picture(1)
    server.files["s-0001.tar?token=T"] = server.files["s-0001.tar"]
    one, other = (opened(server, tmp_path, f"s-0001.tar{query}") for query in ("", "?token=T"))
    assert one.digest() == other.digest()
    server.files["z.tar.gz"] = gzip.compress(server.files["s-0001.tar"])
    assert opened(server, tmp_path, "z.tar.gz").read(0).image == jpeg(2)


@pytest.mark.parametrize("name", ["s-0000.tar", "a.parquet"])
def test_a_server_without_ranges_is_refused_before_the_run_begins(server, tmp_path, name):
    server.ranges = False
    with pytest.raises(
        ValueError, match=rf"{name}: the server does not support range requests; download it"
    ):
        opened(server, tmp_path, name)


@pytest.mark.parametrize("name", ["s-0001.tar", "a.parquet"])
def test_temporary_server_errors_are_retried_and_logged(server, tmp_path, capsys, name):
    server.statuses[name] = [500, 503]
    assert len(opened(server, tmp_path, name)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "failed" in line]
    assert [line.split(";")[0].split("/")[-1] for line in lines] == [
        f"{name}: try 1 of 5 failed (HTTP 500 Internal Server Error)",
        f"{name}: try 2 of 5 failed (HTTP 503 Service Unavailable)",
    ]


def test_http_404_is_reported_as_a_missing_file(server, tmp_path):
    source = opened(server, tmp_path, "s-000{0,1,2}.tar", max_bad_share=0.5)
    assert source.about()["missing_shards"] == {"count": 1, "first": f"{server.url}/s-0002.tar"}
    with pytest.raises(ValueError, match=r"parquet: no file at .*b\.parquet"):
        opened(server, tmp_path, "b.parquet")


@pytest.mark.parametrize("name", ["s-0000.tar", "a.parquet"])
def test_a_read_that_stalls_ends_by_the_limit_and_names_the_file(
    server, tmp_path, monkeypatch, capsys, name
):
    source = opened(server, tmp_path, name)
    # of the limits at opening, which a busy machine needs
    monkeypatch.setattr(remote, "TIMEOUT", 1.5)
    monkeypatch.setattr(remote, "STALL", 0.5)
    server.stalled.add(name)
    begin = time.monotonic()
    with pytest.raises((ValueError, OSError), match=rf"{name}: could not be read in 5 tries"):
        source.read(1)
    assert time.monotonic() - begin < 10  # of a limit of 1.5, against minutes without it
    assert "trying again" in capsys.readouterr().err


def test_captions_of_parquet_behind_a_server_are_hashed_once_for_each_state_of_their_file(
    server, tmp_path, monkeypatch
):
    hashed = []
    monkeypatch.setattr(
        parquet,
        "hash_column",
        lambda *words, **keys: hashed.append(words[0]) or hash_column(*words, **keys),
    )

    def digest_after(*, expected):
        hashed.clear()
        digest = opened(server, tmp_path / "cache", "a.parquet").digest()
        assert len(hashed) == expected
        return digest

    first = digest_after(expected=1)
    assert digest_after(expected=1) == first  # without a stamp nothing is kept
    server.stamps["a.parquet"] = '"1"'
    assert [digest_after(expected=1), digest_after(expected=0)] == [first, first]
    other = parquet_of("one", "six")
    assert len(other) == len(server.files["a.parquet"])
    server.files["a.parquet"], server.stamps["a.parquet"] = other, '"2"'
    second = digest_after(expected=1)
    assert second != first
    (kept,) = (tmp_path / "cache/captions").iterdir()
    for damage in ("", "[1]", '{"a": 3}', "{" * 100_000):
        kept.write_text(damage)
        assert [digest_after(expected=1), digest_after(expected=0)] == [second, second]


SECRETS = re.compile(rb"pa55word|T0ken")
RUN = "lightning_logs/clippy_dino_max/tiny/version_0"


@pytest.mark.slow
def test_nothing_that_is_written_or_printed_has_the_password_or_the_token(
    server, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    server.authorization = f"Basic {b64encode(b'user:pa55word').decode()}"
    server.files = {f"{name}?token=T0ken": content for name, content in server.files.items()}
    root = "//user:pa55word@127.0.0.1:{}/s-000{{0,1}}.tar?token=T0ken"
    word = f"data.root=http:{root.format(server.server_port)}"
    keys = f"evaluation.limit=4 data.cache={tmp_path}/c trainer.enable_progress_bar=false"
    train = f"train clippy_dino_max --scale tiny {keys} {' '.join(WORDS)} data.source=tars {word}"
    said = ""
    for line in (
        f"data inspect tars {word}",
        f"{train} data.limit=null data.batch_size=4 trainer.max_steps=2 "
        "logger=[lightning.pytorch.loggers.CSVLogger]",
        f"eval {RUN} evaluation.debias=largest {keys} {word}",
        f"export {RUN} --to exported",
        f"report {RUN} --output report.html",
    ):
        done = succeed(line, folder=tmp_path)
        said += done.stdout + done.stderr
    refusal = refused(f"eval {RUN} evaluation.debias=largest {keys}", folder=tmp_path)
    assert "HTTP 401 Unauthorized; user info and query of an address are never saved" in refusal
    said += refusal + refused(f"data inspect tars data.root=http:{root.format(9)}", folder=tmp_path)
    assert not SECRETS.search(said.encode())
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        content = path.read_bytes()
        assert not SECRETS.search(str(path).encode() + content), path
        if path.suffix == ".html" or "exported" in path.parts:
            assert str(tmp_path).encode() not in content, path
