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
from gestalt.config.schema import config_hash
from gestalt.data_modules.sources import open_source
from gestalt.encoders.towers import build_image_tower
from gestalt.pretraining.module import summary_of
from gestalt.support.typed import ConfigError
from tests.data_modules.files import write_flickr
from tests.gestalt.command import (
    TINY,
    TWO_RANKS,
    ended_by,
    gestalt,
    refused,
    result,
    slowed,
    succeed,
)
from tests.gestalt.tiny_config import tiny_config

FILE = "inits/tiny.safetensors"
DINO = f"pretrain --init dino --to {FILE} {TINY}"
slow = pytest.mark.slow


def record_in(folder):
    return json.loads((folder / f"{FILE}.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, succeed(DINO, folder=folder)


@slow
def test_pretraining_writes_weights_with_provenance_from_which_training_starts(whole):
    folder, done = whole
    record = record_in(folder)
    assert FILE in done.stderr
    assert (record["init"], record["steps"]) == ("dino", 8)
    assert record["size"] == record["config"]["pretraining"]["crop_size"]
    assert record["command"] == f"gestalt {DINO}"
    assert record["config"]["pretraining"]["steps"] == 8
    assert record["data"]["digest"]
    assert record["provenance"]["packages"]["torch"] == torch.__version__
    assert record["seconds"]["training"] > 0
    assert list(folder.glob("inits/tiny/events*"))
    assert not list(folder.glob("**/*.ckpt"))
    succeed(f"train clippy_dino_max {TINY} image.weights={FILE} trainer.max_steps=2", folder=folder)
    assert result(folder)["image_init"] == {
        "requested": "dino",
        "resolved": "dino",
        "source": FILE,
        "sha256": record["sha256"],
    }


KILLED = """
import os, signal, sys
from gestalt.__main__ import main
from gestalt.runs import pretraining as make
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
    killed = gestalt(moment, *DINO.split(), folder=tmp_path, program=("-c", KILLED))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not list(tmp_path.glob("**/*.safetensors"))
    assert (
        "inits/tiny: an unfinished pretraining with another pretraining.seed; choose another --to, "
        "or remove it"
    ) in refused(f"{DINO} pretraining.seed=1", folder=tmp_path)
    succeed(f"{DINO} data.workers=1 pretraining.save_every_steps=3", folder=tmp_path)
    assert record_in(tmp_path)["sha256"] == record_in(whole[0])["sha256"]


@slow
def test_ctrl_c_saves_and_the_same_command_resumes(whole, tmp_path):
    process = slowed(
        DINO, folder=tmp_path, module="gestalt.pretraining.module", owner="PatchDistillation"
    )
    stderr = ended_by(signal.SIGINT, process, folder=tmp_path)
    assert "the same command continues" in stderr
    succeed(DINO, folder=tmp_path)
    assert record_in(tmp_path)["sha256"] == record_in(whole[0])["sha256"]


@slow
def test_two_ranks_learn_what_one_process_does(whole, tmp_path):
    # on the default number of threads, and started as a user does
    succeed(f"{DINO} {TWO_RANKS}", folder=tmp_path, threads=None)
    from safetensors.torch import load_file

    expected, found = load_file(whole[0] / FILE), load_file(tmp_path / FILE)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


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
    words = "pretraining.steps=120 pretraining.batch_size=32 pretraining.limit=null"
    succeed(f"pretrain --init {init} --to {FILE} {TINY} {words}", folder=tmp_path)
    image = tiny_config().image
    torch.manual_seed(0)
    random, trained = (
        build_image_tower(replace(image, eval_size=32, **changes)).eval()
        for changes in ({"init": "random"}, {"init": init, "weights": str(tmp_path / FILE)})
    )
    assert neighbours_agree(trained, vector) > neighbours_agree(random, vector) + 0.02


CNN = "image.family=cnn image.backbone=resnet18 image.keep_tokens=1.0 image.patch_size=null "
CNN += "image.width=null image.depth=null image.heads=null"
REFUSED = {  # words: what the line must hold
    CNN: ["pretraining is for ViTs", "image.family=vit"],
    "pretraining.crop_size=60": ["pretraining.crop_size=60", "multiple of image.patch_size=8"],
    "trainer.precision=bf16-true": [
        "trainer.precision=bf16-true",
        "32-true, 64-true, bf16-mixed",
    ],
    "image.weights=FILE": ["image.weights=FILE", "starts from random weights; choose null"],
    "image.init=random": ["image.init=random", "--init dino says what is made"],
    "--to weights.pt": ["--to weights.pt", "ends in .safetensors"],
    "--to mine.safetensors": ["mine.safetensors exists; choose another --to"],
}


@pytest.mark.parametrize(("words", "held"), REFUSED.items(), ids=REFUSED)
def test_an_invalid_pretrain_command_is_refused_in_one_line_and_overwrites_nothing(
    words, held, cwd, refusal
):
    (cwd / "mine.safetensors").write_bytes(b"mine")
    line = refusal(f"pretrain --init dino --scale tiny {words}")
    assert all(part in line for part in held), line
    assert (cwd / "mine.safetensors").read_bytes() == b"mine"


def test_a_source_without_labels_is_refused_by_its_name(cwd, refusal):
    write_flickr(cwd / "flickr")
    line = "pretrain --init supervised --scale tiny data.source=flickr data.root=flickr"
    message = "data.source=flickr has none; choose data.source=scenes, or --init dino"
    assert message in refusal(line)


def test_an_init_is_a_word_or_a_file():
    with pytest.raises(ConfigError, match=r"image\.inits\.dino=made: not an init"):
        tiny_config("image.inits.dino=made", name="clippy_random_max")
    own = ["image.init=ibot", "image.inits.ibot=mine.pth"]
    with pytest.raises(ConfigError, match=r"image\.inits\.ibot=dino: ibot is not an init"):
        tiny_config("image.inits.ibot=dino", name="clippy_random_max")
    tiny_config(*own, name="clippy_random_max")
    tiny_config(own[0], "image.weights=mine.pth", name="clippy_random_max")


def test_pretraining_keys_do_not_tell_runs_apart():
    plain, other = (tiny_config(*words) for words in ([], ["pretraining.steps=9"]))
    assert config_hash(plain) == config_hash(other)
