"""Downloads: a fault of a server, an archive, a disk or the hub ends in one line and leaves no file
under its final name; what other programs pack lies where the benchmarks read it.
"""

import errno
import os
import re
import subprocess
import time
from dataclasses import replace
from fnmatch import filter
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from gestalt.data_modules.tools.get import ELSEWHERE, SETS
from gestalt.support.files import file_hash
from tests.data_modules.fakes.classified import draw_imagenet_v2
from tests.data_modules.fakes.masks import draw_ade, draw_context, draw_stuff, draw_voc
from tests.data_modules.fakes.panoptic import draw_panoptic
from tests.data_modules.files import opened_set, picture
from tests.data_modules.server import serving
from tests.data_modules.tar_files import write_tar
from tests.gestalt.command import run_here

GET = "data get ade20k"
THREE = ["data/0.jpg", "data/1.jpg", "data/2.jpg"]


@pytest.fixture
def server(cwd, monkeypatch):
    """A server of the working directory, in which ``a.tar`` has three pictures and is moved.
    ``serve`` gives a row of the table its files.
    """
    write_tar(Path("a.tar"), [(f"{number}.jpg", picture(number)) for number in range(3)])
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which does not answer
    with serving() as running:

        def serve(name, *files, **changes):
            running.files |= {file: Path(file).read_bytes() for file in files}
            address, *mirrors = (f"{running.url}/{file}" for file in files)
            changes = {"checksum": None, "least": 3, "mirrors": tuple(mirrors), **changes}
            monkeypatch.setitem(SETS, name, replace(SETS[name], address=address, **changes))

        running.serve = serve
        running.statuses["a.tar"] = [302]
        yield running


def files():
    found = [path for path in Path("data").rglob("*") if path.is_file()]
    return sorted(str(path) for path in found if path.suffix != ".lock")


def stopped(capsys, line=GET, status=1):
    """The line by which a command has to end."""
    run_here(line, status=status)
    (said,) = capsys.readouterr().err.splitlines()
    return said


@pytest.mark.parametrize(
    ("sent", "stated", "checked", "said"),
    [
        (700, 2_000, True, "IncompleteRead"),
        (2_000, 700, True, "does not match the known hash"),
        (0, 15, True, "does not match the known hash"),
        (0, 15, False, "no whole archive, a web page, or too large; run the command again"),
    ],
)
def test_a_fault_of_a_server_is_one_line_and_a_mirror_or_the_next_call_mends_it(
    server, capsys, sent, stated, checked, said
):
    Path("b.tar").write_bytes(Path("a.tar").read_bytes()[:sent] or b"<!doctype html>")
    server.lengths["b.tar"] = stated
    row = {"holds": "*.jpg"}
    if checked:
        row["checksum"] = f"sha256:{file_hash(Path('a.tar'))}"
    server.serve("ade20k", "b.tar", **row)
    assert re.search(rf"data/downloads/b.tar: .*{said}", stopped(capsys))
    assert files() == []
    server.serve("ade20k", *["b.tar"] * checked, "a.tar", **row)
    run_here(GET)
    told = capsys.readouterr().out
    again = "score a published number again: gestalt reproduce sclip/ade20k benchmark_root=data"
    assert told.endswith(f"ade20k is complete in data: benchmark_root=data\n{again}\n")
    assert ("this download is not verified" in told) is not checked
    assert files() == THREE


@pytest.mark.parametrize(
    ("pack", "said"),
    [
        ("tar -cf b.tar zeros", r"b.tar: not downloaded.* sends more than 1,100 bytes"),
        ("tar -czf b.tar.gz zeros", r"b.tar.gz: .* unpacks to more than 10,000 bytes"),
        ("zip -q b.zip zeros", r"b.zip: .* unpacks to more than 10,000 bytes"),
        ("zip -qm a.zip zeros; zip -q b.zip a.zip", r"b.zip: .* unpacks to more than 9,\d+ bytes"),
    ],
)
def test_more_bytes_than_the_published_size_allows_are_refused(server, capsys, pack, said):
    Path("zeros").write_bytes(bytes(10**5))
    subprocess.run(pack, shell=True, check=True)
    server.serve("ade20k", *map(str, Path().glob("b.*")), size=1_000)
    assert re.search(said, stopped(capsys))
    assert files() == []


def test_a_pipe_in_place_of_an_archive_is_refused(server, capsys):
    server.serve("ade20k", "a.tar")
    Path("data/downloads").mkdir(parents=True)
    os.mkfifo("data/downloads/a.tar")
    assert "a.tar: not a regular file; move it away" in stopped(capsys)


def test_a_second_command_waits_for_the_first_and_downloads_nothing(server, capsys, monkeypatch):
    server.serve("ade20k", "a.tar", holds="*.jpg")
    second = Thread(target=run_here, args=[GET])

    def retrieve(*words, **choices):
        second.start()
        while "waiting for another process" not in (told := capsys.readouterr().out):
            assert second.is_alive(), told
        return "a.tar"

    downloads = Mock(side_effect=retrieve)
    monkeypatch.setattr("pooch.retrieve", downloads)
    run_here(GET)
    second.join()
    assert files() == THREE
    downloads.assert_called_once()


@pytest.mark.parametrize("command", ["tar -cPf ../b.tar ../a.tar", "zip -q ../b.tar ../a.tar"])
def test_an_archive_that_leaves_its_folder_is_refused(server, capsys, command):
    Path("in").mkdir()
    subprocess.run(command.split(), cwd="in", check=True)
    server.serve("ade20k", "b.tar")
    assert "'../a.tar' would be" in stopped(capsys)
    assert files() == []


def test_too_few_files_and_too_little_room_are_said(server, capsys, monkeypatch):
    server.serve("ade20k", "a.tar")
    assert "lacks 3 files data/ADEChallengeData2016/" in stopped(capsys)
    monkeypatch.setattr("pooch.retrieve", Mock(side_effect=OSError(errno.ENOSPC, "full")))
    assert "a.tar: the disk is full" in stopped(capsys)
    monkeypatch.setattr("gestalt.data_modules.tools.get.free_bytes", lambda folder: 1e9)
    assert "choose another folder by --to DIR" in stopped(capsys, status=2)
    run_here(f"{GET} --dry-run")
    assert "a.tar, 967382037 bytes, no published" in capsys.readouterr().out


def test_a_killed_download_begins_again_and_a_whole_one_is_not_repeated(server):
    server.serve("ade20k", "a.tar", holds="*.jpg")
    server.stalled.add("a.tar")
    process = get_context("spawn").Process(target=SETS["ade20k"].get, args=[Path("data")])
    process.start()
    while not list(Path("data").rglob("tmp*")):
        assert process.is_alive()
        time.sleep(0.05)
    process.kill()
    process.join()
    server.stalled.clear()
    run_here(GET)
    Path(THREE[0]).unlink()
    Path("data/downloads/a.tar").write_bytes(server.files.pop("a.tar"))
    run_here(GET)
    assert files() == THREE


@pytest.mark.parametrize(
    ("names", "image_set", "commands"),
    [
        (["pascal_voc"], "pascal_voc", "tar -cf ../pascal_voc.tar VOCdevkit"),
        (["ade20k"], "ade20k", "zip -qr ../ade20k.zip ADEChallengeData2016"),
        (["imagenet_v2"], "imagenet_v2", "tar -cf ../imagenet_v2.tar.gz imagenetv2-*"),
        (
            ["coco_val", "coco_stuff", "coco_panoptic"],
            "coco",
            """zip -qr ../coco_val.zip val2017
            (cd stuffthingmaps_trainval2017; zip -qr ../../coco_stuff.zip .)
            cd annotations
            cp -r panoptic_val2017 panoptic_train2017
            for set in train val; do zip -qrm panoptic_${set}2017.zip panoptic_${set}2017; done
            cd ..
            zip -qr ../coco_panoptic.zip annotations""",
        ),
        (
            ["pascal_context_masks", "pascal_context_images"],
            "pascal_context",
            """zip -qr ../pascal_context_images.zip VOCdevkit/*/JPEGImages
            echo '{"images": [{"image_id": 1, "file_name": "2008_000000.jpg", "phase": "val",
            "height": 33, "width": 50}], "annos_segmentation": []}'>../pascal_context_masks.json""",
        ),
    ],
)
def test_what_others_pack_lies_where_its_image_set_reads_it(server, names, image_set, commands):
    drawn = Path("drawn")
    for draw in (draw_voc, draw_context, draw_ade, draw_stuff, draw_panoptic, draw_imagenet_v2):
        draw(drawn)
    subprocess.run(commands, shell=True, check=True, cwd=drawn)
    for name in names:
        server.serve(name, *map(str, Path().glob(f"{name}.*")), least=1)
    run_here(f"data get {' '.join(names)}")
    assert opened_set(image_set, "data").sample(0)


def test_files_of_the_hub_are_counted(capsys, monkeypatch, tmp_path):
    names = [f"cc12m-train-{number:04d}.tar" for number in range(2_176)]

    def download(repository, *, allow_patterns, local_dir, dry_run=False, repo_type):
        assert filter([*names, "README.md"], allow_patterns) == names
        if dry_run:
            return [SimpleNamespace(file_size=1_000, will_download=True)]
        local_dir.mkdir(parents=True, exist_ok=True)
        for name in given.pop():
            (local_dir / name).touch()

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    given = [names[:1], names[1:]]
    line = f"data get cc12m --to '{tmp_path}/a b'"
    assert "lacks 2,176 files" in stopped(capsys, line)
    run_here(line)
    words = f"data.root='{tmp_path}/a b''/cc12m/cc12m-train-{{0000..2175}}.tar'"
    assert capsys.readouterr().out.endswith(f"data.source=tars {words}\n")


def test_a_set_that_is_not_downloaded_is_told_where_it_is(capsys):
    for name, where in ELSEWHERE.items():
        assert f"{name}: {where}" in stopped(capsys, f"data get {name}", status=2)
