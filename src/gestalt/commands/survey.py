"""survey: score models on benchmarks, each under its own protocol and a common one, and write all
results to one page.
"""

import statistics
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from gestalt.commands.flags import add_keys, add_launcher, choose_launcher
from gestalt.data_modules.tools.get import ELSEWHERE, SETS
from gestalt.runs import locks
from gestalt.support.addresses import without_secrets
from gestalt.support.files import free_bytes

if TYPE_CHECKING:
    from gestalt.ablation.survey import Survey


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    add = parser.add_argument
    add("survey", help="a survey of `gestalt list surveys`, or the path of a YAML file")
    add(
        "--plan",
        action="store_true",
        help="list the evaluations, which of them are finished, the data and models to download, "
        "and the time",
    )
    add_launcher(parser)
    add_keys(
        parser,
        "keys of the configuration that scoring reads, for every evaluation, such as "
        "benchmark_root=DIR evaluation.limit=100",
    )


def check(arguments: Namespace) -> "Survey":
    """Read the survey, and check the model and the overrides of every evaluation."""
    from gestalt.ablation.survey import read_survey

    return read_survey(arguments.survey, tuple(arguments.overrides))


def run(arguments: Namespace) -> int:
    """Run the unfinished evaluations and write the page, or only list the evaluations.  Returns 1
    if an evaluation failed, else 0.

    Raises:
        ConfigError: submitit refuses the cluster's parameters, or another process runs this survey.
        Interrupted: the process received a signal to stop.
    """
    from gestalt.ablation.queue import Queue
    from gestalt.results.survey import write_page
    from gestalt.support.process import tell

    survey: Survey = arguments.checked
    folder = survey.folder
    launcher = choose_launcher(arguments, folder)
    if arguments.plan:
        print("\n".join(plan(survey, launcher.limit)))
        return 0
    queue = Queue(launcher, folder)
    with locks.hold(folder / ".lock", f"{folder}: another process runs this survey; wait for it"):
        queue.run(list(survey.cells.values()))
        states = {place: cell.read_state() for place, cell in survey.cells.items()}
        results = {place: state.result for place, state in states.items() if state.result}
        words = " ".join(map(without_secrets, arguments.overrides))
        remarks = [f"All evaluations were run with {words}."] if words else []
        if results:
            print(write_page(folder, results, [*remarks, *queue.failures]))
            tell(f"page: {folder / 'page.html'}")
    for line in queue.failures:
        tell(line)
    return 1 if queue.failures else 0


def plan(survey: "Survey", jobs: int) -> list[str]:
    """Return a line for each evaluation with its state, the downloads that are needed, and a last
    line with the expected time.
    """
    from gestalt.ablation.jobs import files_of
    from gestalt.results.text import amount, span

    cells = survey.cells.values()
    states = [cell.read_state() for cell in cells]
    lines = [f"{state.kind:<9} {cell.label}" for cell, state in zip(cells, states, strict=True)]
    need = 0
    terms = {name: row.terms or "not known" for row in survey.benchmarks for name in row.sets}
    for name, text in terms.items():
        state = f"complete in {survey.root}"
        if name not in SETS:
            state = ELSEWHERE[name]
        elif SETS[name].missing(survey.root):
            need += SETS[name].need(survey.root)
            state = f"gestalt data get {name}: {SETS[name]}"
        lines.append(f"data {name}: {state}; terms of use: {text}")
    for model in dict.fromkeys(name for cell in cells for name in cell.models):
        size = sum(file.stat().st_size for file in files_of(model))
        state = f"{amount(size, 'B')} on this disk"
        if not size:
            state = "its bytes and licence are not known here; its hub states them"
        lines.append(f"model {model}: {state}")
    lines.append(
        f"disk: the data need at least {amount(need, 'B')}, without those of unpublished size; "
        f"{amount(free_bytes(survey.root), 'B')} are free"
    )
    spent = [state.result.record["seconds"] for state in states if state.result]
    left = len(states) - len(spent)
    time = "the time is not known before one is finished"
    if spent:
        seconds = statistics.median(spent) * left / min(jobs, left or 1)
        time = f"about {span(seconds)}, by the median of the finished ones"
    return [*lines, f"{left} of {len(states)} evaluations to come; {time}"]
