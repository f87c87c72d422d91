"""Write the page of a survey: a table of models and benchmarks for each protocol, published numbers
beside ours, a table of protocols for each model, and the costs.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gestalt.measures.evaluation.published import published_of
from gestalt.results import compare
from gestalt.results.result import Result, headlines
from gestalt.results.templates import HERE, render
from gestalt.results.text import NONE, Table, amount, csv_text, latex, markdown, span
from gestalt.support.files import write_whole

OWN = "own"
"""Name that stands for each model's own protocol, the protocol of its published number."""

METHOD = (
    f"{compare.UNCLEAR}: the difference is not clear, because its interval contains 0, or there is "
    f"none. {compare.METHOD}"
)


Groups = dict[str, list[Result]]
"""Protocol or model -> results of single benchmarks."""


class Place(NamedTuple):
    """The position of a cell in a survey: model label, protocol and benchmark."""

    model: str
    protocol: str
    benchmark: str


def write_page(
    folder: Path,
    results: Mapping[Place, Result],
    remarks: Sequence[str],
) -> str:
    """Write ``page.html``, ``table.md``, ``table.csv`` and ``table.tex``, each atomically.  Returns
    the Markdown.

    Args:
        folder: folder of the survey; the last part of its path is the survey's name.
        results: at least one finished evaluation.
        remarks: lines on the survey, and on the evaluations that failed.

    Raises:
        ConfigError: arrays do not belong to a results file.
    """
    by_protocol: Groups = defaultdict(list)
    by_model: Groups = defaultdict(list)
    for place, result in results.items():
        by_protocol[place.protocol].append(replace(result, label=place.model))
        by_model[place.model].append(replace(result, label=place.protocol))
    own = by_protocol.pop(OWN, [])
    shown = [_compared("Protocol", "model", *group) for group in by_protocol.items()]
    if own:
        shown.append(own_table(own))
    others = [
        _compared("Protocols of", "protocol", model, found)
        for model, found in by_model.items()
        if len({result.label for result in found}) > 1
    ]
    costs = [_cost(*group) for group in by_model.items()]
    tables = [*shown, *others, Table("Cost", ["model", "evaluations", "time", "memory"], costs)]
    text = "\n\n".join([f"# Survey {folder.name}", markdown(tables, METHOD), *remarks, ""])
    page = render(
        HERE / "survey.html", name=folder.name, tables=tables, remarks=remarks, method=METHOD
    )
    write_whole(folder / "table.csv", csv_text(shown))
    write_whole(folder / "table.tex", latex(shown, METHOD))
    write_whole(folder / "page.html", page)
    write_whole(folder / "table.md", text)
    return text


def _compared(kind: str, head: str, view: str, results: Sequence[Result]) -> Table:
    """Return a table of the models under a protocol, or of the protocols of a model, with the first
    headline metric of each benchmark.

    Args:
        kind: word for ``view`` in the title.
        head: head of the column that names the rows.
        view: name of the protocol, or label of the model.
        results: results of single benchmarks.  The label of a result is the name of its row.
    """
    metrics = [metric for result in results for metric in headlines([result])[:1]]
    compared = compare.compare(
        results,
        metrics=list(dict.fromkeys(metrics)),
        allow_mixed=True,
        rows_name_settings=True,
    )
    table = compared.table(view)
    return replace(table, title=f"{kind} {view}", heads=[head, *table.heads[1:]])


def own_table(results: Sequence[Result]) -> Table:
    """Return a table of models under their own protocols, with the published numbers beside ours.
    No difference is shown if only a part of the set was scored.
    """
    heads = ["model", "metric", "protocol", "ours", "published, %", "difference, points", "source"]
    rows = []
    notes: list[str] = []
    values: list[Mapping[str, object]] = []
    for result, metric in ((one, key) for one in results for key in headlines([one])[:1]):
        table = compare.compare([result], metrics=[metric]).table(OWN)
        notes += table.notes
        values += table.values
        stated = [NONE, NONE, NONE]
        if number := published_of(result.label).get(metric.partition("/")[0]):
            difference = f"{100 * result.record['metrics'][metric] - number.value:+.2f}"
            stated = [f"{number.value:.2f}", difference, number.source]
            if result.part(metric):
                stated[1] = NONE
            values.append(
                {
                    "run": result.label,
                    "metric": metric,
                    "measured_by": "published",
                    "mean": number.value / 100,
                    "source": number.source,
                }
            )
        protocol = result.entry(metric)["protocol"]["name"]
        rows.append([result.label, table.heads[1], protocol, table.rows[0][1], *stated])
    return Table("Own protocols", heads, rows, range(3, 6), list(dict.fromkeys(notes)), values)


def _cost(model: str, results: Sequence[Result]) -> list[str]:
    """Return the row of a model in the table of costs: number of evaluations, time and peak
    memory.
    """
    seconds = sum(result.record["seconds"] for result in results)
    memory = max(result.record["memory_bytes"] for result in results)
    return [model, str(len(results)), span(seconds), amount(memory, "B")]
