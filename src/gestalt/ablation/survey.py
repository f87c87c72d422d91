"""Read and check surveys: models, benchmarks and protocols, from
``experiments/surveys/<name>.yaml``. All cells are checked before the first evaluation.

To add a survey, write such a file; ``SurveyFile`` lists the keys. No code changes are needed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import NamedTuple

from gestalt.ablation.grid import word
from gestalt.ablation.jobs import QUIET, Scoring, scoring_config
from gestalt.config.folders import EXPERIMENTS, LOGS, find_yaml
from gestalt.data_modules.tools.get import ROOT
from gestalt.measures.evaluation.benchmarks import BENCHMARKS, Benchmark
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.evaluation.published import published_of
from gestalt.models.finding import check_target
from gestalt.models.names import Overrides
from gestalt.results.survey import OWN, Place
from gestalt.support.keys import Keys, flatten
from gestalt.support.typed import ConfigError, convert, read_keys

MODEL = "model"
"""Key that names the model in a row of ``models``.  The other keys of a row are keys of the
configuration.
"""


@dataclass
class SurveyFile:
    """The keys of a survey's file, see ``docs/evaluation.md``."""

    models: dict[str, Keys | None]
    benchmarks: list[str]
    protocols: list[str] = field(default_factory=lambda: [OWN])


class Survey(NamedTuple):
    """A survey of models on benchmarks.

    Attributes:
        name: stem of the survey's file.
        root: folder of the benchmarks' files.
        benchmarks: names of benchmarks, in the file's order.
        cells: the evaluations.
    """

    name: str
    root: Path
    benchmarks: list[Benchmark]
    cells: dict[Place, Scoring]

    @property
    def folder(self) -> Path:
        """The folder of the page and of the results files."""
        return LOGS / "surveys" / self.name


def read_survey(name: str, overrides: Overrides) -> Survey:
    """Read a survey and check every cell.

    Args:
        name: the stem of a YAML file in ``experiments/surveys``, or the path of another file.
        overrides: ``key=value`` words for every cell.

    Raises:
        ConfigError: the file, a cell or an override is wrong.  The message is one line that says
            where, and what to change.
    """
    file = find_yaml(EXPERIMENTS / "surveys", name, kind="survey")
    given = _by_key([f"benchmark_root={ROOT}", *overrides])
    root = Path(given["benchmark_root"].partition("=")[2])
    try:
        keys: SurveyFile = convert(read_keys(file), SurveyFile, origin=file.name)
        survey = Survey(file.stem, root, [BENCHMARKS[name] for name in keys.benchmarks], {})
        for label, values in keys.models.items():
            settings = flatten(values or {})
            numbers = published_of(label)
            model = settings.pop(MODEL, next((row.model for row in numbers.values()), label))
            target = str(check_target(model) or model)
            for name, protocol in product(keys.benchmarks, keys.protocols):
                row = BENCHMARKS[name]
                stated = [
                    word("evaluation.benchmarks", [name]),
                    *map(word, settings, settings.values()),
                ]
                if protocol != OWN:  # the protocol replaces one in the model's settings
                    stated.append(word(f"evaluation.{MEASURES[row.measures[0]].key}", protocol))
                elif row.name in numbers:
                    stated = numbers[row.name].overrides()
                words = _words(stated, given, reads_root=bool(row.layout))
                place = Place(label, protocol, row.name)
                survey.cells[place] = Scoring(", ".join(place), target, words, survey.folder)
    except ValueError as error:
        raise ConfigError(f"survey {file.stem}: {error}") from error
    return survey


def _words(stated: list[str], given: dict[str, str], *, reads_root: bool) -> Overrides:
    """Check and return the words of a cell.

    Args:
        stated: words of the survey.
        given: key -> word of the command line.
        reads_root: False if the benchmark has no files; ``gestalt eval`` would then refuse a root.
    """
    words = _by_key(stated)
    for key in words.keys() & given.keys():
        raise ConfigError(f"{given[key]}: the survey sets {key} itself; leave it out")
    words |= given
    if not reads_root:
        del words["benchmark_root"]
    scoring_config(words.values())
    return (QUIET, *words.values())


def _by_key(words: Iterable[str]) -> dict[str, str]:
    return {word.partition("=")[0]: word for word in words}
