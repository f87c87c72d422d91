"""Pretraining from the command line: the file, its provenance, resuming after a kill, and what is
refused.
"""

import json
import signal
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from gestalt.aggregation import max_of_parts
from gestalt.config.identity import config_hash
from gestalt.config.loading import load
from gestalt.config.schema import ConfigError
from gestalt.data_modules.sources import open_source
from gestalt.encoders.image import build_image_tower
from gestalt.pretraining.module import summary_of
from tests.gestalt.command import ended_by, gestalt, result, slowed

TINY = ("--scale", "tiny", "trainer.enable_progress_bar=false")
FILE = "inits/tiny.safetensors"
DINO = ("pretrain", "--init", "dino", "--to", FILE, *TINY)
slow = pytest.mark.slow


def record_in(folder):
    return json.loads((folder / f"{FILE}.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = gestalt(*DINO, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@slow
def test_pretraining_writes_weights_with_provenance_from_which_training_starts(whole):
    folder, done = whole
    record = record_in(folder)
    assert FILE in done.stderr
    assert (record["init"], record["steps"]) == ("dino", 8)
    assert (
        record["command"]
        == "gestalt pretrain --init dino --scale tiny trainer.enable_progress_bar=false"
    )
    assert record["config"]["pretraining"]["steps"] == 8
    assert record["data"]["digest"]
    assert record["provenance"]["packages"]["torch"] == torch.__version__
    assert record["seconds"]["training"] > 0
    assert list(folder.glob("inits/tiny/events*"))
    assert not list(folder.glob("**/*.ckpt"))
    trained = gestalt(
        "train",
        "clippy_dino_max",
        *TINY,
        f"image.weights={FILE}",
        "trainer.max_steps=2",
        folder=folder,
    )
    assert trained.returncode == 0, trained.stderr
    assert result(folder)["image_init"] == {
        "asked": "dino",
        "used": "dino",
        "source": FILE,
        "sha256": record["sha256"],
    }


KILLED = """
import os, signal, sys
from gestalt.__main__ import main
from gestalt.pretraining import make
from gestalt.pretraining.module import PatchDistillation
step, write = PatchDistillation.training_step, make.write_init
def training_step(self, batch, index):
    if self.global_step == 6 and sys.argv[1] == "step":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, index)
def write_init(*args, **keywords):
    if sys.argv[1] == "write":
        os.kill(os.getpid(), signal.SIGKILL)
    write(*args, **keywords)
PatchDistillation.training_step, make.write_init = training_step, write_init
sys.exit(main(sys.argv[2:]))
"""


@slow
@pytest.mark.parametrize("moment", ["step", "write"])
def test_killed_pretraining_leaves_no_partial_file_and_resumes_to_identical_weights(
    whole, tmp_path, moment
):
    killed = gestalt(moment, *DINO, folder=tmp_path, program=("-c", KILLED))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not list(tmp_path.glob("**/*.safetensors"))
    other = gestalt(*DINO, "pretraining.seed=1", folder=tmp_path)
    assert other.returncode == 2
    assert (
        "inits/tiny: an unfinished pretraining with another pretraining.seed; choose another --to, "
        "or remove it" in other.stderr
    )
    done = gestalt(*DINO, "data.workers=1", "pretraining.save_every_steps=3", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert record_in(tmp_path)["sha256"] == record_in(whole[0])["sha256"]


@slow
def test_ctrl_c_saves_and_the_same_command_resumes(whole, tmp_path):
    process = slowed(
        *DINO, folder=tmp_path, module="gestalt.pretraining.module", owner="PatchDistillation"
    )
    stderr = ended_by(signal.SIGINT, process, folder=tmp_path)
    assert "the same command continues" in stderr
    assert gestalt(*DINO, folder=tmp_path).returncode == 0
    assert record_in(tmp_path)["sha256"] == record_in(whole[0])["sha256"]


@slow
def test_two_ranks_learn_what_one_process_does(whole, tmp_path):
    # on the default number of threads, and started as a user does
    done = gestalt(
        *DINO, "trainer.devices=2", "trainer.strategy=ddp", folder=tmp_path, threads=None
    )
    assert done.returncode == 0, done.stderr
    from safetensors.torch import load_file

    expected, found = load_file(whole[0] / FILE), load_file(tmp_path / FILE)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-3)


def neighbours_agree(tower, vector):
    """Share of new scenes of one object whose nearest training scene shows the same object."""
    trained = open_source("scenes", root=None, size=32, seed=0, limit=1024, object_centred=True)
    seen = []
    with torch.no_grad():
        for numbers in (range(512), range(512, 1024)):
            tokens = tower(torch.stack([trained.image(number, 0) for number in numbers]))
            labels = torch.tensor([trained.label(number) for number in numbers])
            seen.append((functional.normalize(vector(tokens), dim=-1), labels))
    (bank, known), (queries, truth) = seen
    return float((known[(queries @ bank.T).argmax(dim=1)] == truth).float().mean())


@slow
@pytest.mark.parametrize(
    ("init", "vector"), [("supervised", summary_of), ("dino", max_of_parts)], ids=["class", "max"]
)
def test_new_scenes_are_nearer_to_their_like_after_pretraining(tmp_path, init, vector):
    words = ["pretraining.steps=120", "pretraining.batch_size=32", "pretraining.limit=null"]
    done = gestalt("pretrain", "--init", init, "--to", FILE, *TINY, *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    image = load("clippy_dino_max", scale="tiny").image
    torch.manual_seed(0)
    random, trained = (
        build_image_tower(replace(image, **changes), size=32).eval()
        for changes in ({"init": "random"}, {"init": init, "weights": str(tmp_path / FILE)})
    )
    assert neighbours_agree(trained, vector) > neighbours_agree(random, vector) + 0.02


CNN = ["image.family=cnn", "image.backbone=resnet18", "image.keep_tokens=1.0"]
CNN += [f"image.{key}=null" for key in ("patch_size", "width", "depth", "heads")]
REFUSED = [  # overrides, what the line must hold
    (["--init", "dino", *CNN], ["pretraining is for ViTs", "image.family=vit"]),
    (
        ["--init", "dino", "pretraining.crop_size=60"],
        ["pretraining.crop_size=60", "multiple of image.patch_size=8"],
    ),
    (
        ["--init", "dino", "trainer.precision=bf16-true"],
        ["trainer.precision=bf16-true", "32-true, 64-true, bf16-mixed"],
    ),
    (
        ["--init", "dino", "image.weights=FILE"],
        ["image.weights=FILE", "starts from random weights; choose null"],
    ),
    (
        ["--init", "dino", "image.init=random"],
        ["image.init=random", "--init dino says what is made"],
    ),
    (["--init", "dino", "--to", "weights.pt"], ["--to weights.pt", "ends in .safetensors"]),
]


@pytest.mark.parametrize(("words", "held"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_an_invalid_pretrain_command_is_refused_in_one_line(words, held, capsys):
    from gestalt.__main__ import main

    assert main(["pretrain", *words, "--scale", "tiny"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    for part in held:
        assert part in line


def test_a_file_is_never_overwritten(tmp_path, capsys):
    from gestalt.__main__ import main

    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"mine")
    assert main(["pretrain", "--init", "dino", "--scale", "tiny", "--to", str(file)]) == 2
    assert "mine.safetensors exists; choose another --to" in capsys.readouterr().err
    assert file.read_bytes() == b"mine"


def test_a_source_without_labels_is_refused_by_its_name(tmp_path, monkeypatch, capsys):
    from PIL import Image

    from gestalt.__main__ import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "Images").mkdir()
    for number in range(8):
        Image.new("RGB", (48, 40), (30 * number, 80, 90)).save(
            tmp_path / "Images" / f"{number}.jpg"
        )
    (tmp_path / "Flickr_8k.trainImages.txt").write_text(
        "".join(f"{number}.jpg\n" for number in range(8))
    )
    (tmp_path / "captions.txt").write_text(
        "image,caption\n" + "".join(f"{number}.jpg,a colour\n" for number in range(8))
    )
    words = [
        "pretrain",
        "--init",
        "supervised",
        "--scale",
        "tiny",
        "data.source=flickr",
        f"data.root={tmp_path}",
    ]
    assert main(words) == 2
    assert (
        "data.source=flickr has none; choose data.source=scenes, or --init dino"
        in capsys.readouterr().err
    )


def test_an_init_is_a_word_or_a_file():
    with pytest.raises(ConfigError, match=r"image\.inits\.dino=made: not an init"):
        load("clippy_random_max", scale="tiny", overrides=["image.inits.dino=made"])
    load("clippy_random_max", scale="tiny", overrides=["image.inits.dino=mine.safetensors"])


def test_pretraining_keys_do_not_tell_runs_apart():
    plain, other = (
        load("clippy_dino_max", scale="tiny", overrides=words)
        for words in ([], ["pretraining.steps=9"])
    )
    assert config_hash(plain) == config_hash(other)
