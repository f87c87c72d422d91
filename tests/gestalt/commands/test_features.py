"""A run on cached features against the same run on images."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gestalt.__main__ import main
from gestalt.module import ContrastiveModule
from gestalt.runs import features as command
from gestalt.runs.cache_key import Description
from gestalt.runs.features import make_cache as cache
from gestalt.runs.train import train
from gestalt.support.typed import ConfigError
from tests.data_modules.files import picture, write_flickr
from tests.gestalt.command import TWO_RANKS, killed, result, succeed
from tests.gestalt.tiny_config import tiny_config

QUIET = "trainer.enable_progress_bar=false evaluation.benchmarks=[]"
FLICKR = (
    "data.source=flickr data.limit=null data.batch_size=4 trainer.max_steps=7 "
    "trainer.max_epochs=null data.max_bad_share=0.5"
)
FROZEN = "data.crops=2 text.frozen=true"
CNN = (
    "image.backbone=resnet18 image.family=cnn image.inits.supervised=random image.keep_tokens=1 "
    "image.patch_size=null image.width=null image.depth=null image.heads=null"
)
WAYS = {
    "one_block_of_two": f"clippy_random_max image.frozen_blocks=1 {FROZEN}",
    "every_token_and_the_text_tower_trained": (
        "clippy_dino_avg image.frozen_blocks=1 image.subsampling=false data.crops=1 "
        "text.family=open_clip text.init=random text.layers=1 text.width=16 text.heads=2"
    ),
    "micro_batches": (
        f"clippy_dino_cls image.frozen_blocks=2 {FROZEN} data.batch_size=2 "
        "trainer.accumulate_grad_batches=2"
    ),
    "a_cnn": f"clippy_supervised_max {CNN} image.frozen_blocks=3 {FROZEN}",
}
RANDOM = f"clippy_random_max {FLICKR} image.frozen_blocks=1 {FROZEN}"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Six photographs, of which one is broken."""
    root = tmp_path_factory.mktemp("photographs")
    write_flickr(
        root, content=lambda number: b"broken" if number == 2 else picture(number, side=(80, 60))
    )
    return root


def made(line, **places):
    """The configuration of an experiment and its overrides, with its folders."""
    experiment, *words = f"{line} {QUIET}".split()
    words += [f"data.{key}={place}" for key, place in places.items()]
    return tiny_config(*words, name=experiment)


def losses(config, monkeypatch):
    """The loss of each step of a run, and its record."""
    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(
            ContrastiveModule,
            "_log_step",
            lambda self, terms, *_, **__: seen.append(terms.loss.item()),
        )
        train(config)
    records = sorted(
        Path().glob("lightning_logs/*/*/version_*/result.json"),
        key=lambda path: path.stat().st_mtime_ns,
    )
    return seen, json.loads(records[-1].read_text())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "way",
    [*list(WAYS)[:2], *(pytest.param(way, marks=pytest.mark.slow) for way in list(WAYS)[2:])],
)
def test_each_step_has_the_same_loss_on_cached_features_as_on_images(
    way, photographs, cwd, monkeypatch
):
    experiment, _, words = WAYS[way].partition(" ")
    line = f"{experiment} {FLICKR} {words}"
    cache(made(line, root=photographs), Path("cache"), stored="float32")
    plain, record = losses(made(line, root=photographs), monkeypatch)
    monkeypatch.setattr("gestalt.encoders.image.ImageTower.normalise", None)  # no pixel is read
    cached, other = losses(made(line, root=photographs, features="cache"), monkeypatch)
    assert len(plain) == 7
    assert cached == pytest.approx(plain, abs=1e-5)
    assert len(set(plain)) > 3
    assert record["config_hash"] == other["config_hash"]
    facts = other["data"].pop("features")
    assert facts == {
        "crops": 1 if "data.crops=1" in line else 2,
        "bad": facts["crops"],
        "stored": "float32",
    }
    assert record["data"] == other["data"]
    assert other["data"]["bad_samples"]["bad"] > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("summed", [True, False], ids=["", "by an older version"])
def test_a_resumed_features_command_writes_identical_files(
    summed, photographs, tmp_path, monkeypatch
):
    monkeypatch.setattr(command, "SAVED_BYTES", 2 * 33 * 32 * 4)
    monkeypatch.setattr(command, "BATCH", 2)
    config = made(RANDOM, root=photographs)
    words = f"features {RANDOM} {QUIET} --scale tiny data.root={photographs} --to".split()
    assert main([*words, str(tmp_path / "whole")]) == 0
    loader = command.DataLoader

    def stopping(spans, **options):
        for number, loaded in enumerate(loader(spans, **options)):
            if number == 3:
                raise KeyboardInterrupt
            yield loaded

    with monkeypatch.context() as patch:
        patch.setattr(command, "DataLoader", stopping)
        with pytest.raises(KeyboardInterrupt):
            cache(config, tmp_path / "stopped", stored="float32")
    assert not Description.read(tmp_path / "stopped").complete
    assert Description.read(tmp_path / "stopped").written == 6
    if not summed:
        (tmp_path / "stopped/sums.npy").unlink()
    with pytest.raises(
        ConfigError, match=r"not complete; run its `gestalt features` command again to complete it"
    ):
        cache(config, tmp_path / "stopped", stored="float32", only_check=True)
    cache(config, tmp_path / "stopped", stored="float32")
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {path.name for path in (tmp_path / "stopped").iterdir()}
    assert names == {".lock", "features.json", "images.npy", "sums.npy"}
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (
            tmp_path / "stopped" / name
        ).read_bytes(), name
    assert main([*words, str(tmp_path / "stopped"), "--check"]) == 0


@pytest.mark.filterwarnings("ignore")
def test_a_cache_of_other_weights_or_data_is_refused_with_the_reason(photographs, cwd):
    config = made(RANDOM, root=photographs)
    cache(config, Path("cache"), stored="float16")
    for word, message in {
        "image.stem=conv": "image.stem is conv, but the cache has patch; image weights is ",
        "data.flip=0.5": r"crop is .*, mirrored 0\.5, colours 0\.0, but the cache has shares",
        "data.limit=5": "data digest is .*; pairs is 5, but the cache has 6",
    }.items():
        changed = f"{RANDOM} {word}"
        with pytest.raises(ConfigError, match=f"made for another run: {message}"):
            train(made(changed, root=photographs, features="cache"))
        with pytest.raises(ConfigError, match=message):
            cache(made(changed, root=photographs), Path("cache"), stored="float16")
    with pytest.raises(
        ConfigError, match=r"--dtype is float32, but the cache has float16; choose another folder"
    ):
        cache(config, Path("cache"), stored="float32")
    (cwd / "other").mkdir()
    (cwd / "other" / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"holds notes.txt but no cache"):
        cache(config, cwd / "other", stored="float32")
    np.save("cache/images.npy", np.load("cache/images.npy")[:, 1:])
    with pytest.raises(ConfigError, match=r"images\.npy holds .*, and features\.json says"):
        train(made(RANDOM, root=photographs, features="cache"))
    description = Description.read(Path("cache"))
    description.key["image weights"] = "others"
    description.write(Path("cache"))
    with pytest.raises(ConfigError, match=r"image weights is .*, but the cache has others"):
        train(made(RANDOM, root=photographs, features="cache"))
    assert not list(Path().glob("lightning_logs/*/*/version_*"))


@pytest.mark.filterwarnings("ignore")
def test_a_disk_without_room_is_refused_before_anything_is_written(
    photographs, tmp_path, monkeypatch
):
    monkeypatch.setattr(command, "free_bytes", lambda folder: 2**26)
    config = made(f"clippy_random_max {FLICKR} image.frozen=true {FROZEN}", root=photographs)
    mend = r"0\.06 GiB more are needed and 0\.06 GiB are free; choose another disk, --dtype float16"
    with pytest.raises(ConfigError, match=mend):
        cache(config, tmp_path / "cache", stored="float32")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


@pytest.mark.slow
def test_two_ranks_and_a_resumed_run_on_features_match_one_run_on_images(tmp_path):
    words = (
        f"clippy_random_max --scale tiny {QUIET} image.frozen_blocks=1 {FROZEN} "
        "checkpoint_every_steps=3"
    )
    train = f"train {words}"
    cached = f"{train} data.features=../cache"
    plain, ranks, resumed = (tmp_path / name for name in ("plain", "ranks", "resumed"))
    for folder in (plain, ranks, resumed):
        folder.mkdir()
    succeed(f"features {words} --to ../cache", folder=plain)
    succeed(train, folder=plain)
    succeed(f"{cached} {TWO_RANKS}", folder=ranks)
    assert result(ranks)["loss"] == pytest.approx(result(plain)["loss"], abs=1e-5)
    killed("step 5", cached, folder=resumed)
    succeed(f"{cached} resume=last", folder=resumed)
    (path,) = resumed.glob("lightning_logs/*/*/version_0/result.json")
    shutil.rmtree(tmp_path / "cache")
    assert json.loads(path.read_text())["loss"] == pytest.approx(result(plain)["loss"], abs=1e-5)
