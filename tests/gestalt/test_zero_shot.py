"""``gestalt.ZeroShot`` scores in anyone's Lightning project as ``gestalt eval`` does, and changes
nothing else in it.
"""

import json
import re
import subprocess
import sys
from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

import gestalt
from gestalt.support.ranks import broadcast
from tests.gestalt.at_step import QUIET
from tests.gestalt.command import ROOT, environment, run_here
from tests.gestalt.measures.stage import Stub
from tests.gestalt.models.zoo.test_open_clip import saved
from tests.gestalt.ranks import mean_over_threads, run_all
from tests.gestalt.tiny_model import tiny
from tests.gpu.stand_in import on_the_device, pretended_gpu

PAGE = (ROOT / "docs" / "lightning.md").read_text()
FILES = dict(re.findall(r"^```\w+\n# (\w+\.\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
PROGRAMS = [line.split() for line in re.findall(r"^python (\w+\.py.*)$", PAGE, re.MULTILINE)]
FUNCTIONS = ("locations", "pooled", "texts")


@pytest.fixture
def project_file(cwd):
    """The project of the page in a file, beside the other files of the page."""
    for name, text in FILES.items():
        Path(name).write_text(text)
    return cwd / "project.py"


def check_scores(folder):
    """Hold the scores that the example left to those of ``gestalt eval`` on the weights it left."""
    run_here(f"eval open_clip:{folder} evaluation.limit=13 image.eval_size=32 --output records")
    expected = json.loads(Path("records/evaluations/0.json").read_text())["metrics"]
    found = {}
    for entry in json.loads(Path(folder, "scores.json").read_text()):
        found |= entry["metrics"]
    assert expected["scenes/miou"] > 0
    # groups of the vectors that are projected, as the entry says, not of those of the tower
    differ = {"scenes/jaccard", "scenes/jaccard_with_background"}
    assert {key for key in expected if found[key] != expected[key]} == differ


@pytest.mark.slow
def test_the_example_scores_as_eval_does_and_trains_as_without_it(project_file, monkeypatch):
    monkeypatch.syspath_prepend(project_file.parent)
    project = import_module(project_file.stem)
    without = Callback()
    without.results = list
    found = []
    for name, callback in {"with": project.ZeroShot, "without": lambda *_, **__: without}.items():
        saved(Path(name))
        monkeypatch.setattr(project, "ZeroShot", callback)
        accuracy = project.main(name)["accuracy"]
        found.append((accuracy, Path(name, "open_clip_pytorch_model.bin").read_bytes()))
    assert found[0] == found[1]
    check_scores("with")


@pytest.mark.slow
def test_the_example_scores_as_eval_does_on_two_ranks(project_file):
    text = FILES["project.py"]
    for line, instead in {  # each rank leaves another buffer, as a batch norm does
        "        self.accuracy =": "        self.register_buffer('sign', torch.ones(()))",
        "        return cross_entropy": "        self.sign.fill_(1 - 2 * self.global_rank)",
    }.items():
        text = text.replace(line, f"{instead}\n{line}")
    text = text.replace("(patches @", "self.sign * (patches @")
    project_file.write_text(text.replace("limit=13", "limit=13, batch_size=4"))
    saved(Path("model"))
    run_all([[str(project_file), "model", "2"]])
    check_scores("model")


def logged(number):
    """The scalars of a run in TensorBoard's log, step by step."""
    events = EventAccumulator(f"lightning_logs/version_{number}").Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.slow
def test_the_programs_of_the_page_log_what_the_project_logs(project_file):
    """Hydra is installed apart: a package that it needs has no wheel."""
    saved(Path("model"))
    assert len(PROGRAMS) == 3
    programs = [words for words in PROGRAMS if find_spec("hydra") or "hydra" not in words[0]]
    for words in [*programs, ["project.py", "model"]]:  # the last writes its weights
        subprocess.run([sys.executable, *words], env=environment(), check=True)
    *found, expected = map(logged, range(len(programs) + 1))
    assert len(expected["scenes/miou"]) == 2
    assert found == [expected] * len(programs)


def test_ranks_get_the_values_of_the_first():
    def work(rank):
        tensors = {"whole": torch.full((3,), rank), "turned": torch.full((2, 3), 5.0 + rank).T}
        broadcast(tensors.values())
        return tensors

    found = mean_over_threads(work, ranks=2)
    assert found["whole"].tolist() == [0, 0, 0]
    assert found["turned"].tolist() == [[5, 5]] * 3


class Own(Stub):
    """Somebody's module, whose steps see nothing but its own batches."""

    def __init__(self):
        super().__init__()
        self.model = deepcopy(tiny()[0]).requires_grad_().train()

    def training_step(self, batch):
        return self.model.patch_tokens(batch, projected=True).square().mean()

    def on_validation_model_eval(self):
        """Stay in training mode."""

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        assert batch.shape == (2, 3, 32, 32)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=3.0)


class Named(Own):
    """Has the three functions as methods."""

    def locations(self, images):
        return images[:, :, ::8, ::8]

    def pooled(self, images):
        return images.mean((2, 3))

    def texts(self, texts):
        return torch.ones(len(texts), 3)


def by_the_command_line(callbacks):
    """The callbacks of the page, built by LightningCLI."""
    config = {"trainer": {**QUIET, "callbacks": callbacks[:1]}}
    cli = LightningCLI(Named, run=False, seed_everything_default=False, args=config)
    written = yaml.safe_load(cli.parser.dump(cli.config))
    assert written["trainer"]["callbacks"] == callbacks[:1]
    return cli.trainer.callbacks[0]


def by_hydra(callbacks):
    """The callbacks of the page, built by Hydra without their conversion."""
    hydra = pytest.importorskip("hydra.utils")
    return hydra.instantiate(OmegaConf.create(callbacks[0]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's use of jsonargparse
@pytest.mark.parametrize(
    ("file", "made"), [("cli.yaml", by_the_command_line), ("with_hydra.yaml", by_hydra)]
)
def test_the_configurations_of_the_page_name_benchmarks_keys_and_methods(file, made, monkeypatch):
    monkeypatch.setattr("sys.argv", [file])  # LightningCLI warns of other words there
    zero_shot = made(yaml.safe_load(FILES[file])["trainer"]["callbacks"])
    named = gestalt.ZeroShot(benchmarks=["scenes"], size=32, limit=13)
    assert zero_shot.config == named.config
    module = Named()
    zero_shot.on_fit_start(Trainer(**QUIET, callbacks=[zero_shot]), module)
    functions = zero_shot._scored.model.model
    assert functions == {name: getattr(module, name) for name in FUNCTIONS}


def test_benchmarks_are_a_list_or_names_one_by_one():
    names = ["scenes", "scenes_matching"]
    ways = gestalt.ZeroShot(*names), gestalt.ZeroShot(names), gestalt.ZeroShot(benchmarks=names)
    assert [way.config.evaluation.benchmarks for way in ways] == [names] * 3


class Watch(Callback):
    """Notes torch's random state, and the modules that are in training mode."""

    def __init__(self):
        self.seen = []

    def on_validation_epoch_start(self, trainer, pl_module):
        training = [part for part in pl_module.modules() if part.training]
        self.seen.append((torch.get_rng_state().tolist(), training))


def test_an_average_of_weights_is_scored_and_monitored_at_its_own_validation(tmp_path):
    module, zero_shot = Own(), gestalt.ZeroShot("scenes", limit=4, size=32)
    best, watch = ModelCheckpoint(tmp_path, monitor="scenes/miou"), Watch()
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    data, own = (DataLoader(part, 2) for part in (images, images[:2]))
    trainer = Trainer(
        **QUIET | {"enable_checkpointing": True},
        max_epochs=1,
        callbacks=[EMAWeightAveraging(decay=0.5), watch, zero_shot, watch, best],
    )
    trainer.fit(module, data, [data, own])
    before, after = watch.seen[-2:]  # the first are of the sanity check
    assert before == after
    assert len(before[1]) > 1
    last = {key: value for key, value in trainer.callback_metrics.items() if "scenes" in key}
    assert best.best_model_score == last["scenes/miou"]
    kept = torch.load(best.best_model_path, weights_only=False)["callbacks"]
    assert not any("ZeroShot" in key for key in kept)
    again = Trainer(**QUIET, callbacks=[zero_shot])
    again.validate(module, own, verbose=False)  # of the average, which the module has now
    assert {key: again.callback_metrics[key] for key in last} == last


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")
def test_a_device_has_the_cpus_scores():
    def scores(**device):
        zero_shot = gestalt.ZeroShot("scenes", limit=4, size=32)
        trainer = Trainer(**QUIET | device, callbacks=[zero_shot], inference_mode=False)
        trainer.validate(Own(), DataLoader(torch.zeros(2, 3, 32, 32), 2), verbose=False)
        return trainer.callback_metrics

    expected = scores()
    with pretended_gpu():
        assert scores(**on_the_device()) == expected


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")
@pytest.mark.parametrize("model", [None, dict.fromkeys(FUNCTIONS, abs)])
def test_the_buffers_of_the_first_rank_are_scored_and_a_rank_keeps_its_own(model, monkeypatch):
    module, zero_shot = Own(), gestalt.ZeroShot("scenes", model=model)
    mean, scored, probe = module.model.image_tower.mean.fill_(3), [], Callback()
    probe.on_validation_epoch_start = lambda *_: scored.append(mean.unique().item())
    built = SimpleNamespace(val_dataloader=list), [probe]
    monkeypatch.setattr("gestalt.zero_shot.build_evaluation", lambda *_, **__: built)

    def of_first(buffers):
        mean.fill_(9 if any(buffer is mean for buffer in buffers) else 0)

    monkeypatch.setattr("gestalt.zero_shot.broadcast", of_first)
    trainer = Trainer(**QUIET, callbacks=[zero_shot])
    trainer.validate(module, DataLoader(torch.zeros(2, 3, 32, 32), 2), verbose=False)
    assert (scored, mean.unique().item()) == ([9], 3)


@pytest.mark.parametrize(
    ("benchmarks", "options", "said"),
    [
        ((), {}, "no benchmark; name one or more"),
        (("scenes",), {"limits": 3}, "evaluation.limit"),
        (("scenes",), {"debias": "largest"}, "evaluation.unlabelled=DIR"),
        (("scenes",), {"model": {"pooled": sum}}, "named pooled; give locations, pooled, texts"),
    ],
)
def test_what_cannot_be_scored_is_refused_at_once(benchmarks, options, said):
    with pytest.raises(ValueError, match=said):
        gestalt.ZeroShot(*benchmarks, **options)


def test_what_a_trainer_cannot_score_is_refused_before_it_trains():
    one, other = gestalt.ZeroShot("scenes"), gestalt.ZeroShot("scenes", size=32)
    functions = {"locations": abs, "pooled": "training_step", "texts": "training_stp"}
    misnamed = gestalt.ZeroShot("scenes", model=functions)
    module = Stub()
    module.model = torch.nn.PReLU()
    mend = "'training_step'. choose one of configure_optimizers, training_step, validation_step$"
    for callbacks, said in (
        ([one], "neither model= nor Stub nor its attribute model is a DenseModel; give"),
        ([one, other], "scenes, scenes is named by two callbacks"),
        ([misnamed], f"texts=training_stp: Stub has no such method; did you mean {mend}"),
    ):
        trainer = Trainer(**QUIET, max_epochs=1, callbacks=callbacks)
        with pytest.raises(ValueError, match=said):
            trainer.fit(module, *[DataLoader([0.0])] * 2)
    trainer = Trainer(**QUIET, max_epochs=1, callbacks=[one], limit_val_batches=0)
    with pytest.raises(ValueError, match="the Trainer does not validate; give fit a loader"):
        trainer.fit(Own(), *[DataLoader([0.0])] * 2)
