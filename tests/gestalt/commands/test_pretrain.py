"""Pretraining from the command line: done once, by one process, found by training, and resumed after a kill."""

import json
import signal
import subprocess
import sys

import pytest
import torch

from gestalt.config.identity import config_hash
from gestalt.config.loading import load
from gestalt.config.schema import ConfigError
from tests.gestalt.command import environment, gestalt, interrupted, result

TINY = ("--scale", "tiny", "trainer.enable_progress_bar=false")
DINO = ("pretrain", "--init", "dino", *TINY)
TRAIN = ("train", "clippy_dino_max", *TINY, "image.inits.dino=made", "trainer.max_steps=2")
slow = pytest.mark.slow


def made(folder):
    """The one init file in a folder, and its record."""
    (file,) = folder.glob("lightning_logs/pretrained/tiny/*.safetensors")
    return file, json.loads(file.with_name(f"{file.name}.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = gestalt(*DINO, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@slow
def test_pretraining_writes_weights_with_provenance_scores_and_pictures(whole):
    folder, done = whole
    file, record = made(folder)
    assert str(file.relative_to(folder)) in done.stderr
    assert (record["init"], record["steps"], record["seed"]) == ("dino", 8, 0)
    assert [step for step, _ in record["loss_curve"]] == list(range(8))
    names = {f"{queries}/{vector}" for queries in ("new_scenes", "new_combinations") for vector in ("summary", "max")} | {"patches/miou"}
    assert {name: [step for step, _ in curve] for name, curve in record["knn"]["curves"].items()} == {key: [0, 4, 8] for key in names}
    assert record["config"]["pretraining"]["steps"] == 8
    assert record["decides"]["data.digest"]
    assert record["provenance"]["packages"]["torch"] == torch.__version__
    assert min(record["seconds"][phase] for phase in ("training", "validation")) > 0  # validation: k-NN and pictures
    run = file.with_suffix("")
    assert {path.name for path in run.glob("pictures/pca/*.png")} == {f"step_{step:06d}.png" for step in (0, 4, 8)}
    assert list(run.glob("events*"))
    assert not list(run.glob("**/*.ckpt"))


@slow
def test_a_second_pretraining_call_reuses_the_file(whole):
    folder, _ = whole
    file, _ = made(folder)
    before = file.stat().st_mtime_ns
    done = gestalt(*DINO, folder=folder)
    assert done.returncode == 0, done.stderr
    assert "k-NN" not in done.stdout
    assert made(folder)[0].stat().st_mtime_ns == before


KILLED = """
import os, signal, sys
from gestalt.__main__ import main
from gestalt.pretraining import make_init
from gestalt.pretraining.distillation import SelfDistillation
step, write = SelfDistillation.training_step, make_init.write_init_file
def training_step(self, batch, index):
    if self.global_step == 6 and sys.argv[1] == "step":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, index)
def write_init_file(*args, **keywords):
    if sys.argv[1] == "write":
        os.kill(os.getpid(), signal.SIGKILL)
    write(*args, **keywords)
SelfDistillation.training_step, make_init.write_init_file = training_step, write_init_file
sys.exit(main(sys.argv[2:]))
"""


@slow
@pytest.mark.parametrize("moment", ["step", "write"])
def test_killed_pretraining_leaves_no_partial_file_and_resumes_to_identical_weights(whole, tmp_path, moment):
    killed = gestalt(moment, *DINO, folder=tmp_path, program=("-c", KILLED))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not list(tmp_path.glob("lightning_logs/pretrained/tiny/*.safetensors"))
    done = gestalt(*DINO, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "step 0:" not in done.stdout
    (file, record), (_, expected) = made(tmp_path), made(whole[0])
    assert record["sha256"] == expected["sha256"]
    assert record["loss_curve"] == expected["loss_curve"]
    assert record["knn"] == expected["knn"]
    assert file.name == made(whole[0])[0].name


PATCHES = (
    *("pretraining.summary=max", "pretraining.patch_weight=1", "pretraining.across_weight=1", "pretraining.mask_share=0.5"),
    *("pretraining.patch_prototypes=16", "pretraining.object_centred=false", "pretraining.local_crops=0"),
)


@slow
def test_killed_pretraining_with_patch_losses_resumes_to_identical_weights(tmp_path):
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    assert gestalt(*DINO, *PATCHES, folder=tmp_path / "whole").returncode == 0
    assert gestalt("step", *DINO, *PATCHES, folder=tmp_path / "killed", program=("-c", KILLED)).returncode == -signal.SIGKILL
    done = gestalt(*DINO, *PATCHES, folder=tmp_path / "killed")
    assert done.returncode == 0, done.stderr
    (_, expected), (_, record) = (made(tmp_path / folder) for folder in ("whole", "killed"))
    assert record["sha256"] == expected["sha256"]
    assert {"patch_same", "patch_across", "patch_entropy"} <= record["last_step"].keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["patch_prototypes=16"], r"pretraining\.patch_prototypes=16: there is no loss of patches; .* or choose null"),
        (["patch_centring=sinkhorn"], r"pretraining\.patch_centring=sinkhorn: there is no loss of patches; .* or choose centre"),
        (["image_weight=0"], r"pretraining\.image_weight=0\.0: .*nothing to learn"),
        (["image_weight=0", "patch_weight=1"], r"pretraining\.local_crops=2: .*local crops.*choose 0"),
        (["mask_share=1"], r"pretraining\.mask_share=1\.0: choose a number that is at least 0 and below 1"),
    ],
)
def test_inconsistent_loss_keys_are_refused(words, message):
    words = ["image.init=dino", "image.inits.dino=made", *(f"pretraining.{word}" for word in words)]
    with pytest.raises(ConfigError, match=message):
        load(None, scale="tiny", overrides=words)


@slow
def test_ctrl_c_saves_and_the_same_command_resumes(whole, tmp_path):
    stderr = interrupted(*DINO, folder=tmp_path, module="gestalt.pretraining.distillation", owner="SelfDistillation")
    assert "the same command continues" in stderr
    assert gestalt(*DINO, folder=tmp_path).returncode == 0
    assert made(tmp_path)[1]["sha256"] == made(whole[0])[1]["sha256"]


@slow
def test_training_pretrains_a_missing_init_once_and_starts_from_it(tmp_path):
    first, second = (gestalt(*TRAIN, folder=tmp_path) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "not made yet at this scale; making it once, 8 steps of 8 images" in first.stderr
    assert "not made yet" not in second.stderr
    file, record = made(tmp_path)
    for version in (0, 1):
        used = result(tmp_path, version=version)
        expected = {"asked": "dino", "used": "dino", "source": f"made here, {file.relative_to(tmp_path)}", "sha256": record["sha256"]}
        assert used["image_init"] == expected
    assert "image.init: asked dino, used dino (made here, lightning_logs/pretrained/tiny/" in second.stderr
    run = "lightning_logs/clippy_dino_max/tiny/version_1"
    assert gestalt("eval", run, "evaluation.limit=7", "trainer.enable_progress_bar=false", folder=tmp_path).returncode == 0
    (evaluation,) = tmp_path.glob("lightning_logs/clippy_dino_max/tiny/*/evaluations/*.json")
    assert json.loads(evaluation.read_text())["image_init"]["used"] == "dino"
    assert "k-NN" in first.stderr
    assert "k-NN" not in first.stdout
    assert result(tmp_path, version=0)["weights_sha256"] == result(tmp_path, version=1)["weights_sha256"]


@slow
def test_two_concurrent_runs_pretrain_the_init_once(tmp_path):
    command = [sys.executable, "-m", "gestalt", *TRAIN]
    runs = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [run.communicate(timeout=900)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    assert sum("making it once" in error for error in errors) == 1
    assert len(list(made(tmp_path)[0].with_suffix("").glob("events*"))) == 1
    shas = {result(tmp_path, version=version)["image_init"]["sha256"] for version in (0, 1)}
    assert shas == {made(tmp_path)[1]["sha256"]}


@slow
def test_two_ranks_share_one_init_that_matches_the_one_made_by_one_process(whole, tmp_path):
    done = gestalt(*TRAIN, "trainer.devices=2", "trainer.strategy=ddp", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (file, record), (_, expected) = made(tmp_path), made(whole[0])
    assert result(tmp_path)["image_init"]["sha256"] == record["sha256"]
    assert file.name == made(whole[0])[0].name
    for (step, loss), (other, alone) in zip(record["loss_curve"], expected["loss_curve"], strict=True):
        assert step == other
        assert loss == pytest.approx(alone, rel=1e-3)


@slow
def test_torchrun_ranks_wait_for_the_rank_that_pretrains(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29541", "-m", "gestalt", *TRAIN]
    done = subprocess.run(
        [*command, "trainer.devices=2", "trainer.strategy=ddp"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("making it once") == 1
    assert result(tmp_path)["image_init"]["sha256"] == made(tmp_path)[1]["sha256"]


@slow
@pytest.mark.parametrize(("init", "steps", "vector"), [("supervised", 200, "summary"), ("dino", 120, "max")])
def test_pretraining_at_demo_scale_beats_random_weights_by_knn(tmp_path, init, steps, vector):
    words = [f"pretraining.steps={steps}", f"pretraining.score_every_steps={steps}", "trainer.enable_progress_bar=false"]
    done = gestalt("pretrain", "--init", init, "--scale", "demo", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("lightning_logs/pretrained/demo/*.json")
    (_, random), (_, trained) = json.loads(path.read_text())["knn"]["curves"][f"new_scenes/{vector}"]
    assert trained > random + 0.02


CNN = ["image.family=cnn", "image.backbone=resnet18", "image.keep_tokens=1.0"]
CNN += [f"image.{key}=null" for key in ("patch_size", "width", "depth", "heads")]
REFUSED = [  # overrides, what the line must hold
    (["--init", "dino", *CNN], ["pretraining is for ViTs", "image.family=vit"]),
    (["--init", "supervised", "data.source=flickr", "data.root=DIR"], ["DIR"]),
    (["--init", "supervised", "pretraining.object_centred=false"], ["pretraining.object_centred=False", "one label an image; choose true"]),
    (["--init", "dino", "pretraining.local_size=20"], ["pretraining.local_size=20", "multiple of image.patch_size=8"]),
    (["--init", "dino", "pretraining.global_size=60"], ["pretraining.global_size=60", "multiple of image.patch_size=8"]),
    (["--init", "dino", "pretraining.steps=0"], ["pretraining.steps=0", "above 0"]),
    (["--init", "dino", "pretraining.warmup_steps=9"], ["pretraining.warmup_steps=9", "pretraining.steps=8"]),
    (["--init", "dino", "pretraining.momentum=1.5"], ["pretraining.momentum=1.5", "at least 0 and at most 1"]),
    (["--init", "dino", "pretraining.global_area=[0.9,0.4]"], ["pretraining.global_area", "the smaller first"]),
    (["--init", "dino", "pretraining.final_learning_rate=1"], ["pretraining.final_learning_rate=1", "no more than"]),
    (["--init", "dino", "pretraining.teacher_temperature=0"], ["pretraining.teacher_temperature=0", "above 0"]),
    (["--init", "dino", "pretraining.local_crops=-1"], ["pretraining.local_crops=-1", "at least 0"]),
    (["--init", "dino", "pretraining.gradient_clip=0"], ["pretraining.gradient_clip=0", "above 0"]),
    (["--init", "dino", "trainer.precision=bf16-true"], ["trainer.precision=bf16-true", "32-true or bf16-mixed"]),
    (["--init", "dino", "pretraining.step=9"], ["pretraining.step", "did you mean 'steps'?"]),
    (["--init", "dino", "image.weights=FILE"], ["image.init=dino", "does not start from pretrained weights of `gestalt pretrain`"]),
    ([], ["--init dino or --init supervised"]),
    (["--init", "dino", "--config", "FILE"], ["not both"]),
    (["--config", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
]


@pytest.mark.parametrize(("words", "held"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_an_invalid_pretrain_command_is_refused_in_one_line(words, held, capsys):
    from gestalt.__main__ import main

    assert main(["pretrain", *words, *([] if "--config" in words else ["--scale", "tiny"])]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    for part in held:
        assert part in line


def test_a_source_without_labels_is_refused_by_its_name(tmp_path, capsys):
    from PIL import Image

    from gestalt.__main__ import main

    (tmp_path / "Images").mkdir()
    for number in range(8):
        Image.new("RGB", (48, 40), (30 * number, 80, 90)).save(tmp_path / "Images" / f"{number}.jpg")
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("".join(f"{number}.jpg\n" for number in range(8)))
    (tmp_path / "captions.txt").write_text("image,caption\n" + "".join(f"{number}.jpg,a colour\n" for number in range(8)))
    words = ["pretrain", "--init", "supervised", "--scale", "tiny", "data.source=flickr", f"data.root={tmp_path}"]
    assert main(words) == 2
    assert "data.source=flickr has none; choose data.source=scenes, or image.init=dino" in capsys.readouterr().err


@pytest.mark.parametrize(("init", "used"), [("random", "made"), ("mae", "made"), ("dino", "maed")])
def test_made_is_refused_for_an_init_that_cannot_be_pretrained(init, used):
    with pytest.raises(ConfigError, match=rf"image\.inits\.{init}={used}: not an init"):
        load("clippy_random_max", scale="tiny", overrides=[f"image.inits.{init}={used}"])


def tiny(*overrides):
    return load("clippy_dino_max", scale="tiny", overrides=list(overrides))


def test_pretraining_keys_are_hashed_only_in_runs_that_start_from_the_made_init():
    change, asked = "pretraining.steps=9", "image.inits.dino=made"
    assert config_hash(tiny()) == config_hash(tiny(change))
    assert config_hash(tiny(asked)) != config_hash(tiny(asked, change))
    assert config_hash(tiny(asked)) != config_hash(tiny())
    assert config_hash(tiny(asked)) == config_hash(tiny(asked, "pretraining.knn_bank=9"))


def test_the_hash_does_not_change_with_where_the_weights_lie(tmp_path, monkeypatch):
    here = config_hash(tiny("image.inits.dino=made"))
    monkeypatch.chdir(tmp_path)
    assert config_hash(tiny("image.inits.dino=made")) == here


def test_a_missing_made_init_is_reported_with_the_pretrain_command(tmp_path, monkeypatch):
    from gestalt.building.model import build_model

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"not found; .*`gestalt pretrain --init dino --scale tiny`"):
        build_model(tiny("image.inits.dino=made"))
