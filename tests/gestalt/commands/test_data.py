"""``gestalt data``: sources are given as for training, errors are one line, and files are where the
output says.
"""

import json
import re
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

from gestalt.config.loading import load
from gestalt.config.schema import config_hash
from gestalt.data_modules.corpora.stores import check_inside
from tests.data_modules.files import picture, write_flickr
from tests.gestalt.command import run_here

INSPECT, PACK = "data inspect flickr data.root=flickr", "data pack flickr data.root=flickr"


@pytest.fixture(autouse=True)
def _flickr(cwd):
    """A folder of six photographs, the second cut short, in the working directory."""
    write_flickr(
        cwd / "flickr", content=lambda number: picture(number)[: 400 if number == 1 else None]
    )


def test_inspection_writes_a_manifest_that_training_can_use(capsys):
    run_here(f"{INSPECT} data.workers=0")
    said = capsys.readouterr().out
    assert "bad: 1 of 6" in said
    assert "truncated 1, the first is 1.jpg in flickr/Images" in said
    stop = "training would stop above data.max_bad_share=0.1; raise it, or leave the bad samples"
    assert said.splitlines()[-1].startswith(f"{stop} out by data.manifest=")
    manifest = said.split("data.manifest=")[1].strip()
    held = json.loads(Path(manifest).read_text())
    assert held["bad"] == [[1, "truncated", "flickr/Images", "1.jpg"]]
    assert held["captions"]["usable"] == 8
    run_here(f"{INSPECT} data.workers=0 data.max_bad_share=0.2")
    assert capsys.readouterr().out.splitlines()[-1].startswith("leave the bad")
    run_here(f"{PACK} data.manifest={manifest} --to tars --shards 2")
    assert "packed 5 samples into 2 tars" in capsys.readouterr().out


def test_a_packed_folder_can_be_inspected_as_a_source(capsys):
    run_here(f"{PACK} --to tars --shards 2 --limit 5")
    assert "packed 5 samples into 2 tars in tars" in capsys.readouterr().out
    run_here("data inspect tars data.root=tars data.workers=0 --to found.json")
    held = json.loads(Path("found.json").read_text())
    assert held["samples"] == 5


def test_unread_shards_are_said_by_inspection(capsys):
    run_here(f"{PACK} --to tars --shards 3")
    run_here("data inspect tars data.root=tars/pairs-000000.tar data.workers=0")
    said = "2 shards named like these but unread, the first tars/pairs-000001.tar"
    assert said in capsys.readouterr().out


def test_the_suggested_command_quotes_a_folder_with_a_space(capsys):
    run_here(f"{PACK} --to 'my tars' --shards 1")
    assert "data.source=tars 'data.root=my tars'" in capsys.readouterr().out


def test_a_sheet_is_drawn_at_the_size_of_the_scale(capsys):
    parts = (
        "[{source: flickr, root: flickr, weight: 2}, {source: scenes, weight: 1, limit: 9, "
        "options: {recipe: prototype}}]"
    )
    line = "data show mixture --scale tiny data.limit=6 data.recipe=scenes_v1"
    run_here(f"{line} --columns 2 --to sheet.png", f"data.mixture={parts}")
    assert "sheet: sheet.png" in capsys.readouterr().out
    with Image.open("sheet.png") as sheet:
        assert min(sheet.size) >= 400


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("data inspect flickr", "data.root=None"),
        (
            f"{INSPECT} data.options.spilt=dev",
            r"data\.options\.spilt=dev: .* did you mean 'split'?",
        ),
        ("data inspect flickr data.root=nowhere", "data.root=nowhere: not found"),
        (f"{INSPECT} data.caption=x", "data.caption=x: Flickr8k captions have no columns"),
        (
            f"{INSPECT} data.captions.root=x.csv data.caption.t=1",
            r"data\.captions\.root=x\.csv: not found",
        ),
        (f"{INSPECT} data.captions.root=https://x data.caption=t", "=t: a table .* needs weights"),
        (f"{INSPECT} data.caption.t=1", r"data\.caption={'t': 1\.0}: a table .* set both"),
        ("data inspect scenes data.cache=x", r"data\.cache=x: source scenes does not take it"),
        (f"{INSPECT} data.options.recipe=x", r"data\.options\.recipe=x: has its own key"),
        (f"{INSPECT} data.manifest=x.json", "choose null"),
        (f"{INSPECT} --to no/x.json", "folder no not found"),
        (
            f"{INSPECT} --to flickr",
            r"--to flickr: is a folder; name a file, such as flickr/data\.json",
        ),
        (f"{PACK} --to flickr/captions.txt/x --shards 2", r"cannot be written \(File exists\)"),
        (
            "data inspect mixture 'data.mixture=[{source: scenes}, {source: flikr}]'",
            r"data\.mixture\[1\]\.source=flikr: did you mean 'flickr'",
        ),
        (
            "data inspect mixture "
            "'data.mixture=[{source: scenes, limit: 4}, {source: scenes, limit: 4}]'",
            "inspect each of its sources",
        ),
        (f"{PACK} --to flickr --shards 2", "--to: flickr exists and is not an empty folder"),
        (f"{PACK} --to x --shards 9", "--shards 9: the source has 6 samples"),
    ],
)
def test_a_mistake_is_reported_in_one_line_with_the_remedy(line, message, refusal):
    said = refusal(line)
    assert re.search(message, said), said


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret.jpg", "a/../../secret.jpg"])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_table_that_names_files_outside_of_its_folder_is_packed_only_where_that_is_allowed(
    refusal, name, mixed
):
    Path("t").mkdir()
    Path("t/a.csv").write_text(f"image,caption\n../flickr/Images/0.jpg,a\n{name},b\n")
    line, more = "data pack table data.root=t/a.csv", " data.options.outside=true"
    if mixed:
        parts = "[{source: table, root: t/a.csv}, {source: flickr, root: flickr}]"
        line = f"data pack mixture 'data.mixture={parts}'"
    line += " --to tars --shards 1"
    assert re.search(
        r"t/a\.csv names '\.\./flickr/Images/0\.jpg', which is outside of t; "
        r".*data\.options\.outside=true",
        refusal(line),
    )
    if mixed:
        line, more = line.replace("a.csv", "a.csv, options: {outside: true}"), ""
    run_here(line + more)


def test_a_link_that_leaves_the_folder_is_outside(tmp_path):
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "c.jpg").symlink_to("../b.jpg")
    with pytest.raises(ValueError, match=r"names 'c\.jpg', which is outside"):
        check_inside(["a.jpg", "c.jpg"], table=tmp_path, folder=tmp_path)


def test_inspection_says_what_to_mend_in_a_table(capsys):
    Path("a.csv").write_text("image,caption\n0.jpg,a\n1.jpg,a dog, running\n")
    run_here("data inspect table data.root=a.csv data.workers=0", status=1)
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if "missing_image 1" in line]
    assert "set data.options.images" in line
    assert "row 2 in a.csv; a caption that contains the separator must be in double" in said
    assert "leave the bad samples out" not in said


def test_inspection_reports_samples_left_out_by_a_limit(capsys):
    run_here(f"{INSPECT} data.workers=0 data.limit=4")
    assert "; data.limit leaves out 2 more" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_stops_inspection_before_it_looks(monkeypatch, refusal):
    monkeypatch.setattr("tempfile.TemporaryFile", Mock(side_effect=PermissionError(13, "denied")))
    assert ".: cannot be written (denied)" in refusal(f"{INSPECT} --to found.json")


def test_moving_the_folders_of_a_mixture_does_not_change_the_hash():
    hashes = set()
    for part in ("root: a/cc", "root: b/cc", "root: a/dd", "root: a/cc, weight: 2"):
        parts = f"data.mixture=[{{source: tars, {part}}}, {{source: scenes}}]"
        config = load("clippy_dino_max", scale="demo", overrides=["data.source=mixture", parts])
        hashes.add(config_hash(config))
    assert len(hashes) == 3
