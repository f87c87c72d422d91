"""Installed packages add rows to the registries: known by name without an import, refused where a
name is taken.
"""

import sys
from pathlib import Path

import pytest

from gestalt.commands.list import KINDS
from gestalt.support.plugins import PluginError, Registry, added_to
from gestalt.support.typed import ConfigError
from gestalt.tables import LossOfPairs
from tests.gestalt.tiny_config import tiny_config

MODULE = """
def loss(image, text, **keywords):
    raise RuntimeError("called")

def open_here(*, root, size, seed, limit, colour="red"):
    return [root, size, seed, limit, colour]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts packages of one module and one entry point beside those that are installed."""

    def installed(
        package: str, group: str, name: str, value: str, *, text: str = MODULE, more: str = ""
    ) -> None:
        (tmp_path / f"{package}.py").write_text(text)
        record = tmp_path / f"{package}-1.0.dist-info"
        record.mkdir(exist_ok=True)
        (record / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n{more}"
        )
        (record / "entry_points.txt").write_text(f"[gestalt.{group}]\n{name} = {value}\n")
        added_to.cache_clear()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield installed
    added_to.cache_clear()
    for module in [name for name in sys.modules if name.startswith("planted_")]:
        del sys.modules[module]


def test_a_name_is_known_without_importing_its_package_and_loaded_when_used(install):
    install("planted_bare", "losses", "bare", "planted_bare:loss")
    summary = "Summary: Of mine\n"
    install("planted_loss", "losses", "mine", "planted_loss:loss", more=summary)
    text = MODULE.replace("    raise", '    """Lose\n    all.\n\n    More."""\n    raise')
    install("planted_said", "losses", "said", "planted_said:loss", more=summary, text=text)
    registry = Registry(
        "losses", [LossOfPairs("contrastive", target="builtins:len", one_direction=True)]
    )
    assert list(registry) == ["contrastive", "bare", "mine", "said"]
    assert "mine" in registry
    assert tiny_config("loss.name=mine").loss.name == "mine"
    assert "planted_loss" not in sys.modules
    assert registry["mine"].__name__ == "loss"
    assert registry["contrastive"] is len
    assert [registry.row(name).one_direction for name in [*registry][:3]] == [True, 0, 0]
    assert [(row.line, row.package) for row in registry.rows()] == [
        ("", "built in"),
        ("planted_bare:loss", "planted_bare 1.0"),
        ("Of mine", "planted_loss 1.0"),
        ("Lose all.", "planted_said 1.0"),
    ]
    assert "planted_said" not in sys.modules


def test_an_unknown_name_lists_those_that_packages_add(install):
    install("planted_pool", "aggregations", "median", "planted_pool:loss")
    with pytest.raises(
        ConfigError,
        match=r"image\.aggregation=medain: did you mean 'median'\? choose one of cls, .*, median",
    ):
        tiny_config("image.aggregation=medain")


def test_a_taken_name_is_refused_with_both_packages(install):
    install("planted_one", "aggregations", "max", "planted_one:loss")
    with pytest.raises(
        PluginError,
        match=r"gestalt\.aggregations: planted_one 1\.0 adds 'max', a name of gestalt-grouping",
    ):
        list(Registry("aggregations", {"max": max}))
    install("planted_one", "losses", "mine", "planted_one:loss")
    install("planted_two", "losses", "mine", "planted_two:loss")
    with pytest.raises(
        PluginError, match=r"planted_two 1\.0 adds 'mine', a name of planted_one 1\.0"
    ):
        list(Registry("losses", {}))


@pytest.mark.parametrize(
    ("text", "said"),
    [("import no_such_module", "ModuleNotFoundError"), ("raise SystemExit(0)", "SystemExit: 0")],
)
def test_a_package_that_cannot_be_imported_is_one_line_that_names_it(install, text, said):
    install("planted_broken", "losses", "mine", "planted_broken:loss", text=text)
    with pytest.raises(PluginError, match=rf"'mine' of planted_broken 1\.0 .*be imported: {said}"):
        Registry("losses", {})["mine"]


def test_a_source_of_a_package_is_opened_with_its_options(install):
    from gestalt.data_modules.sources import open_source

    install("planted_source", "sources", "mine", "planted_source")
    assert tiny_config("data.source=mine").data.source == "mine"
    assert open_source("mine", root="x", size=8, seed=0, limit=3, colour="blue") == [
        "x",
        8,
        0,
        3,
        "blue",
    ]
    with pytest.raises(ValueError, match="takes no option 'color'; did you mean 'colour'"):
        open_source("mine", root=None, size=8, seed=0, limit=3, color="blue")


MEASURE = """
from gestalt.measures.evaluation.benchmarks import Benchmark
from gestalt.measures.evaluation.measures import Measure

sharpness = Measure(
    description="Mine",
    builder="builtins:repr",
    table="gestalt.measures.grouping.protocol:PROTOCOLS",
    default="pca_square",
    headline=("sharp",),
)
mine = Benchmark("mine", "scenes", "scenes", ("sharpness",), splits=("val",), source="scenes")
"""


def test_a_measure_of_a_package_is_taken_by_a_benchmark_that_lists_it(install):
    from gestalt.measures.evaluation.benchmarks import BENCHMARKS
    from gestalt.measures.evaluation.measures import MEASURES

    install("planted_sharp", "measures", "sharpness", "planted_sharp:sharpness", text=MEASURE)
    install("planted_mine", "benchmarks", "mine", "planted_sharp:mine")
    assert "sharpness" in [row.name for row in KINDS["measures"]()]
    assert "planted_sharp" not in sys.modules
    evaluation = tiny_config("evaluation.benchmarks=[mine]").evaluation
    (measure,) = BENCHMARKS["mine"].measures
    assert BENCHMARKS["mine"].protocol_name(measure, evaluation) == "pca_square"
    assert MEASURES[measure].build(3) == "3"


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        (
            '("sharpness",)',
            '("sharpnes",)',
            r"mine has the measure 'sharpnes'; did you mean 'sharpness'",
        ),
        (
            'source="scenes"',
            "",
            "scenes and mine share scenes, but have the sources 'scenes' and None; give both",
        ),
    ],
    ids=["measure", "source"],
)
def test_a_row_of_a_package_that_fits_no_other_is_refused(install, good, bad, said):
    install("planted_sharp", "measures", "sharpness", "planted_sharp:sharpness", text=MEASURE)
    text = MEASURE.replace(good, bad)
    install("planted_mine", "benchmarks", "mine", "planted_mine:mine", text=text)
    with pytest.raises(ConfigError, match=said):
        tiny_config("evaluation.benchmarks=[scenes,mine]")
