"""A run's parts in a Trainer of anyone's, and what then opens its checkpoints."""

import json
import pickle
import re
from copy import deepcopy
from inspect import signature
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, TQDMProgressBar
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

import gestalt
from gestalt.data_modules.sources import open_source
from gestalt.encoders.weights import weights_hash
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.results.text import images_text
from gestalt.runs.module import arguments_of
from gestalt.runs.run import Run
from gestalt.runs.train import _trainer
from gestalt.runs.training import build_bad_samples
from gestalt.support.faults import Caveat
from gestalt.training.bad_samples import BadSamples
from gestalt.training.progress import Clock, RunProgressBar
from tests.gestalt.command import TINY, refused, result, succeed
from tests.gestalt.encoders.test_state_dicts import RunsCode
from tests.gestalt.measures.stage import PaintedSet, Stub, context, loader, quiet
from tests.gestalt.measures.test_callback import PROTOCOL
from tests.gestalt.painted import random_pixels
from tests.gestalt.tiny_config import tiny_config
from tests.gestalt.tiny_model import save_run, tiny

QUIET = dict.fromkeys(("logger", "enable_progress_bar", "enable_checkpointing"), False)
SCRIPT = """
import json, sys
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
import gestalt

ranks, steps, *resumed = sys.argv[1:]
run = gestalt.build(gestalt.experiment("clippy_dino_max", scale="tiny"))
saved = ModelCheckpoint(f"ranks_{ranks}", filename="{step}", save_top_k=-1, every_n_train_steps=3)
quiet = {"enable_progress_bar": False, "accelerator": "cpu", "logger": False}
own = {"callbacks": [*run.callbacks, saved], "devices": int(ranks)}
trainer = Trainer(**run.trainer | quiet | own)
trainer.fit(run.module, run.data, ckpt_path=resumed[0] if resumed else None)
trainer.save_checkpoint(f"ranks_{ranks}/last.ckpt")
if trainer.is_global_zero:
    print(json.dumps({key: float(value) for key, value in trainer.callback_metrics.items()}))
"""


def trained(folder: Path, *words: str) -> dict[str, float]:
    """The metrics that the script ends with."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    done = succeed("", *words, folder=folder, program=(str(script),))
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_anyones_trainer_and_the_command_train_the_same_and_each_opens_what_the_other_wrote(cwd):
    line = f"train clippy_dino_max {TINY}"
    succeed(line, folder=cwd)
    ours = result(cwd)
    one = trained(cwd, "1", "8")
    two = trained(cwd, "2", "8")
    for metrics in (one, two):
        scored = {key: metrics[key] for key in ours["metrics"]}  # with those of earlier epochs
        assert scored == pytest.approx(ours["metrics"], abs=1e-6)
    assert one["train/loss"] == pytest.approx(ours["loss"], rel=1e-6)
    checkpoint = "lightning_logs/clippy_dino_max/tiny/version_0/checkpoints/last.ckpt"
    for file in ("ranks_1/last.ckpt", checkpoint):
        assert weights_hash(gestalt.load(file, "cpu").encoder) == ours["weights_sha256"]
        module = gestalt.ContrastiveModule.load_from_checkpoint(file)
        assert weights_hash(module.model) == ours["weights_sha256"]
        # goes on from there: no step is left, and a run that was stopped ends as the whole one
        assert trained(cwd, "1", "8", file) == {}
    assert trained(cwd, "1", "8", "ranks_1/step=3.ckpt") == one
    succeed("eval ranks_1/last.ckpt evaluation.limit=7", folder=cwd)
    scored = json.loads(Path("ranks_1/evaluations/0.json").read_text())
    assert (scored["metrics"], scored["steps"]) == (ours["metrics"], 8)
    succeed("export ranks_1/last.ckpt --to exported", folder=cwd)
    assert weights_hash(gestalt.load("exported", "cpu").encoder) == ours["weights_sha256"]
    record = gestalt.train(
        gestalt.experiment("clippy_dino_max", "start=ranks_1/last.ckpt", scale="tiny")
    )
    assert record["image_init"]["sha256"] == ours["weights_sha256"]
    assert record["overrides"] == ["start=ranks_1/last.ckpt"]
    assert "resumes by its fit(ckpt_path=...)" in refused(
        f"{line} resume=ranks_1/last.ckpt", folder=cwd
    )


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")
def test_each_part_alone_trains_and_its_checkpoint_names_the_model_that_it_needs(tmp_path):
    whole = deepcopy(tiny()[0])
    towers = whole.image_tower, whole.text_tower
    module = gestalt.ContrastiveModule(gestalt.DualEncoder(*towers, width=16))
    source = open_source("scenes", size=64, limit=16, recipe="prototype")
    data = gestalt.ImageTextDataModule(source, size=64, batch_size=4)
    options = {"default_root_dir": tmp_path, "limit_val_batches": 0, **QUIET}
    trainer = Trainer(max_epochs=2, log_every_n_steps=1, **options)
    trainer.fit(module, data)
    assert (trainer.global_step, module.token_count) == (8, "12/64")
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
    file = tmp_path / "own.ckpt"
    trainer.save_checkpoint(file)
    with pytest.raises(ValueError, match=r"load_from_checkpoint\(FILE, model=...\)"):
        gestalt.load(file)
    model = gestalt.DualEncoder(*towers, width=16)
    opened = gestalt.ContrastiveModule.load_from_checkpoint(file, model=model)
    assert torch.equal(
        opened.model.image.projection.linear.weight, module.model.image.projection.linear.weight
    )
    with pytest.raises(ValueError, match="needs an end"):
        Trainer(max_epochs=-1, **options).fit(gestalt.ContrastiveModule(model), data)
    before = deepcopy(model.state_dict())
    Trainer(max_steps=2, gradient_clip_val=0, **options).fit(gestalt.ContrastiveModule(model), data)
    assert any(not value.equal(before[name]) for name, value in model.state_dict().items())


def test_a_trainer_of_ones_own_gets_the_keywords_of_gestalt_train(tmp_path, monkeypatch):
    words = ("trainer.gradient_clip_val=0.5", "trainer.profiler=simple", "optimizer.ema=0.9")
    words += ("trainer.accumulate_grad_batches=2",)
    config = tiny_config(*words, "trainer.callbacks=[lightning.pytorch.callbacks.TQDMProgressBar]")
    run = gestalt.Run(config, None, None, 8, 4, [Callback()], build_bad_samples(config.data))
    monkeypatch.setattr("gestalt.training.trainer.Trainer", given := MagicMock())
    _trainer(run, Clock(0), tmp_path, [], None)
    passed, keywords = given.call_args.kwargs, run.trainer
    kinds = [type(callback) for callback in keywords.pop("callbacks")]
    assert kinds == [EMAWeightAveraging, Callback, BadSamples, TQDMProgressBar]
    theirs = [type(callback) for callback in passed.pop("callbacks")]
    assert [kind for kind in theirs if kind in kinds] == kinds
    assert RunProgressBar not in theirs
    for files in ("logger", "profiler", "plugins", "default_root_dir"):
        assert passed.pop(files)
    assert passed == keywords
    ends = {"max_steps": 8, "max_epochs": -1, "accumulate_grad_batches": 1}
    assert keywords.items() >= {"gradient_clip_val": 0.5, **ends}.items()


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")
def test_a_part_of_a_benchmark_is_said_to_be_one():
    scorer = Segmentation(context(protocol=PROTOCOL, pictures=0))
    trainer = quiet(callbacks=[scorer], limit_val_batches=1)
    with pytest.warns(Caveat, match="2 of 7 images are scored, because the Trainer limits"):
        trainer.validate(Stub(), loader(PaintedSet()), verbose=False)
    assert images_text(scorer.result()) == "2 of 7 images"


def test_a_bad_checkpoint_is_refused_by_its_name_with_and_without_a_model(tmp_path):
    model = deepcopy(tiny()[0])
    load = gestalt.ContrastiveModule.load_from_checkpoint
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    facts = {"last_loss": 0.0, "kept": ""}
    whole = {"state_dict": state, "pytorch-lightning_version": "2.6.6", "gestalt": facts}
    file = tmp_path / "whole.ckpt"
    torch.save(whole, file)
    content = file.read_bytes()
    assert load(file, model=model).model is model
    with file.open("rb") as opened:
        assert load(opened, model=model).model is model
    narrow = {**state, "model.logit_scale": torch.zeros(2)}
    for name, changed in {
        "code": {**whole, "hyper_parameters": RunsCode(tmp_path / "ran")},
        "a list": [1],
        "no tensors": {"state_dict": 3},
        "another library": {"state_dict": state},
        "no facts": {**whole, "gestalt": {}},
        "no arguments": {**whole, "hyper_parameters": 3},
        "another shape": {**whole, "state_dict": narrow},
        "other names": {**whole, "state_dict": {"a": torch.zeros(2)}},
    }.items():
        torch.save(changed, tmp_path / name)
    save_file(state, tmp_path / "tensors.safetensors")
    (tmp_path / "empty").touch()
    (tmp_path / "truncated").write_bytes(content[:-200])
    (tmp_path / "a folder").mkdir()
    for bad in {*tmp_path.iterdir(), tmp_path / "missing"} - {file}:
        for given in ({"model": model}, {}):
            with pytest.raises(ValueError, match=re.escape(str(bad))) as raised:
                load(bad, **given)
            assert "\n" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


class Means(nn.Module):
    """A tower of one's own: the mean colour of each patch."""

    width, stride, mean, std = 3, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    def forward(self, pixels):
        return functional.avg_pool2d(pixels, self.stride)


def test_any_module_that_is_a_tower_is_joined_and_any_other_is_refused():
    text = deepcopy(tiny()[0].text_tower)
    model = gestalt.DualEncoder(Means(), text, width=16)
    assert model.embed_patches(random_pixels(2, 3, 32, 64)).shape == (2, 16, 4, 8)
    assert gestalt.ContrastiveModule(model).keep_share == 1
    similar = nn.Module()  # a stranger's, with the attribute that is read
    similar.image_tower = model.image_tower
    assert gestalt.ContrastiveModule(similar).keep_share == 1
    for towers, why in (
        ((nn.Linear(3, 3), text), "lacks width, stride"),
        ((Means(), Means()), "neither a TextTower"),
    ):
        with pytest.raises(ValueError, match=why):
            gestalt.DualEncoder(*towers)


def test_an_experiment_is_checked_as_in_the_shell():
    for words, why in (
        (["clippy_dino_mx"], "did you mean 'clippy_dino_max'"),
        (["clippy_dino_max", "data.batch_size=1"], "choose 2 or more"),
        (["clippy_dino_max", ["seed=1"]], "one text key=value"),
    ):
        with pytest.raises(ValueError, match=why):
            gestalt.experiment(*words)


def test_averaged_weights_are_in_place_before_anything_is_scored():
    """Callbacks are called in order, and each validation puts the averages in place."""
    scorer, count = Callback(), Callback()
    run = Run(tiny_config("optimizer.ema=0.9"), None, None, 8, 4, [scorer], count)
    first, *others = run.callbacks
    assert isinstance(first, EMAWeightAveraging)
    assert others == [scorer, count]


@pytest.mark.parametrize(("schedule", "total"), [({"schedule": 40}, 40), ({}, 8)])
def test_the_module_of_a_checkpoint_has_the_schedule_that_it_was_trained_with(
    tmp_path, schedule, total
):
    """The run has eight steps; only checkpoints of older versions lack the schedule."""
    file = save_run(tmp_path) / "checkpoints" / "last.ckpt"
    saved = torch.load(file)
    saved["gestalt"] |= schedule
    torch.save(saved, file)
    assert arguments_of(file)["rate_factor"].keywords["total"] == total


def test_a_checkpoint_of_a_run_opens_as_the_class_that_is_asked(tmp_path):
    class Mine(gestalt.ContrastiveModule):
        """A subclass, as users write them."""

    file = save_run(tmp_path) / "checkpoints" / "last.ckpt"
    saved = torch.load(file)
    saved["gestalt"] |= {"last_loss": 0.0, "kept": ""}
    saved["state_dict"] = {f"model.{name}": value for name, value in tiny()[0].state_dict().items()}
    torch.save({**saved, "pytorch-lightning_version": "2.6.6"}, file)
    opened = Mine.load_from_checkpoint(file, seed=5, overrides=["image.aggregation=avg"])
    assert (type(opened), opened.seed) == (Mine, 5)
    assert opened.config["image"]["aggregation"] == "avg"
    assert pickle.loads(pickle.dumps(gestalt.ContrastiveModule)) is gestalt.ContrastiveModule
    assert signature(gestalt.build).parameters["module"].default is gestalt.ContrastiveModule
