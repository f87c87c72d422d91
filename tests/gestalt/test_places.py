"""Data, caches, image sets and models that a file from elsewhere names are opened only if the user
names them again; those of a run in lightning_logs are opened as they are.
"""

import json
import os
import shlex
from pathlib import Path

import pytest
import torch

import gestalt
from gestalt.config.loading import load
from gestalt.config.schema import to_plain
from gestalt.measures.evaluation import benchmarks
from gestalt.models.names import is_own
from gestalt.models.start import build_model
from gestalt.runs.module import arguments_of
from gestalt.runs.score import open_target
from gestalt.support.keys import flatten, unflatten
from gestalt.support.typed import ConfigError
from tests.data_modules.server import serving
from tests.data_modules.tar_files import jpeg, write_tar
from tests.gestalt.command import run_here
from tests.gestalt.tiny_model import RUN, export, save_photo, save_run, tiny

LAST = Path("checkpoints") / "last.ckpt"


@pytest.fixture
def server(tmp_path):
    """A server of one tar."""
    pairs = [(f"{n}.jpg", jpeg(n)) for n in range(2)]
    pairs += [(f"{n}.txt", b"a dog and a cat") for n in range(2)]
    with serving() as running:
        running.files["a.tar"] = write_tar(tmp_path / "a.tar", pairs).read_bytes()
        yield running


def write(kind, folder, keys):
    """A tiny model whose configuration has these keys.  Returns the file or the folder."""
    config = unflatten(flatten(to_plain(tiny()[1]), keep_empty=True) | keys)
    if kind == "exported":
        file = export(folder) / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"config": config}))
        return folder
    run = save_run(folder)
    (run / "config.yaml").write_text(json.dumps(config))
    if kind == "run":
        return run
    content = torch.load(run / LAST) | {"gestalt": {"config": config, "steps_planned": 8}}
    torch.save(content, folder / "own.ckpt")
    return folder / "own.ckpt"


def on(server, cache):
    """Keys of a model whose evaluation and whose loss read a tar of the server."""
    return {
        "data.source": "tars",
        "data.root": f"{server.url}/a.tar",
        "data.cache": str(cache),
        "evaluation.debias": "largest",
        "loss.terms": {"nouns": 1.0},
    }


def file_of(target):
    return target / LAST if target.is_dir() else target


@pytest.mark.parametrize("kind", ["checkpoint", "exported", "run"])
def test_a_file_from_elsewhere_opens_only_what_the_user_names_too(kind, server, cwd, refusal):
    cache = cwd / "cache"
    target = write(kind, cwd / "elsewhere", on(server, cache))
    said = refusal(f"eval {target}")
    shown, _, rest = said.removeprefix("gestalt: ").partition(f": {target}")
    words = shlex.split(shown)
    assert words == [f"data.root={server.url}/a.tar", f"data.cache={cache}"]
    assert "add these words to a command that takes key=value" in rest
    for some in words:
        with pytest.raises(ConfigError, match="names what would be opened"):
            open_target(str(target), overrides=[some])
    gestalt.load(target)
    if kind != "exported":
        with pytest.raises(ConfigError, match=r"data\.root=\S+/a\.tar data\.cache="):
            gestalt.ContrastiveModule.load_from_checkpoint(file_of(target))
    assert (server.requests, cache.exists()) == ([], False)
    open_target(str(target), overrides=words)
    assert server.requests
    assert cache.exists()
    if kind != "exported":
        assert "nouns" in arguments_of(file_of(target), words)["terms"]


def test_pictures_a_start_and_an_export_open_nothing_that_a_file_names(server, cwd):
    target = write("run", cwd / "elsewhere", on(server, cwd / "cache"))
    gestalt.load(target).segment(save_photo(cwd / "a.png"), ["dog", "cat"])
    build_model(load("clippy_dino_max", scale="tiny", overrides=[f"start={target}"]))
    run_here(f"export {target} --to again")
    assert (server.requests, Path("cache").exists()) == ([], False)


def test_a_run_in_lightning_logs_opens_what_it_names(server, cwd):
    run = write("run", cwd, on(server, cwd / "cache"))
    open_target(str(RUN), overrides=[])
    assert server.requests
    server.requests.clear()
    arguments_of(RUN / LAST)
    assert server.requests
    Path("link").symlink_to("lightning_logs")
    Path("elsewhere").mkdir()
    Path("lightning_logs").rename("elsewhere/runs")
    Path("lightning_logs").symlink_to("elsewhere/runs")
    inside = Path(*RUN.parts[1:], LAST)
    for folder in ("lightning_logs", run.parents[2], "link", "elsewhere/runs"):
        assert is_own(folder / inside, run), folder
    Path("lightning_logs").unlink()
    os.mkdir("lightning_logs")
    Path(RUN.parts[0], RUN.parts[1]).symlink_to(Path("elsewhere", "runs", RUN.parts[1]).absolute())
    assert is_own("lightning_logs" / inside, run)
    assert not is_own("lightning_logs" / inside, None)
    for folder in ("elsewhere/runs", "lightning_logs/../elsewhere/runs"):
        assert not is_own(folder / inside, run), folder


DATA = {
    "data.source": "mixture",
    "data.options": {"images": "a b"},
    "data.mixture": [{"source": "tars", "root": "x.tar"}],
    "data.captions": {"root": "c.csv", "by": "url"},
    "data.manifest": "m.json",
    "data.include": "i.npy",
}
SECRET = "http://user:pa55@host/a.tar?token=T0ken"


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        ({"data.root": SECRET}, ["data.root=http://host/a.tar"]),
        (
            {"data.root": "d", "data.source": "flickr", "evaluation.benchmarks": ["flickr"]},
            ["data.root=d"],
        ),
        ({"benchmark_root": "d", "evaluation.benchmarks": ["ade20k"]}, ["benchmark_root=d"]),
        ({"evaluation.benchmarks": ["./b.yaml"]}, ['evaluation.benchmarks=["./b.yaml"]']),
        ({"evaluation.calibration": "c.json"}, ["evaluation.calibration=c.json"]),
        (
            {"evaluation.unlabelled": "d", "evaluation.debias": "largest", "data.root": None},
            ["evaluation.unlabelled=d"],
        ),
        (
            DATA | {"evaluation.debias": "largest"},
            [
                "data.options.images=a b",
                'data.mixture=[{"source": "tars", "root": "x.tar", ',
                "data.captions.root=c.csv",
                "data.manifest=m.json",
                "data.include=i.npy",
            ],
        ),
    ],
)
def test_each_place_is_asked_for_where_it_is_read(keys, refused, cwd):
    target = write("exported", cwd / "exported", keys)
    with pytest.raises(ConfigError) as error:
        open_target(str(target), overrides=[])
    words = shlex.split(str(error.value).partition(f": {target}")[0])
    for start in refused:
        assert any(word.startswith(start) for word in words)
    with pytest.raises(ValueError, match=r"^(?!.*names what would be opened)"):
        open_target(str(target), overrides=words)


def test_pictures_open_no_benchmark_and_no_proxy_model_of_a_file(cwd, monkeypatch, capsys):
    proxy = {"evaluation.reading": "proxyclip", "evaluation.proxy": "timm:none"}
    keys = {"evaluation.benchmarks": ["./b.yaml"], **proxy}
    target = write("exported", cwd / "exported", keys)
    monkeypatch.setattr(benchmarks, "read_definition", None)
    photo, labels = save_photo(cwd / "a.png"), ["dog", "cat"]
    plain = ["evaluation.reading=plain", "evaluation.proxy=null"]
    gestalt.load(target, overrides=plain).segment(photo, labels)
    refused = r"^evaluation\.proxy=timm:none: \S+ names what would be"
    for folder in (target, write("run", cwd / "elsewhere", keys)):
        run_here(f"eval {folder}", status=2)
        assert f"'evaluation.benchmarks=[\"./b.yaml\"]': {folder}" in capsys.readouterr().err
        with pytest.raises(ConfigError, match=refused):
            gestalt.load(folder).segment(photo, labels)
    threshold = "--calibrate scenes evaluation.background=threshold evaluation.threshold=0"
    for words in ("scenes", threshold):
        run_here(f"eval {target} {words} evaluation.limit=1", status=2)
        assert "gestalt: evaluation.proxy=timm:none: " in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"^timm:none"):
        gestalt.load(target, overrides=["evaluation.proxy=timm:none"]).segment(photo, labels)
