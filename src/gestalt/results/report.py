"""``report``: one HTML page of results that fetches nothing, by the template ``report.html``."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from gestalt.results.compare import METHOD, compare, differing
from gestalt.results.grid import METHOD as GRID_METHOD
from gestalt.results.grid import GridResults, build_tables
from gestalt.results.grid_page import grid_page
from gestalt.results.result import Result, headlines
from gestalt.results.section import HEADS, numbers, render_section
from gestalt.results.templates import HERE, render
from gestalt.results.text import OVER_IMAGES, Table, images_text
from gestalt.support.files import write_whole
from gestalt.support.typed import ConfigError

SUBTITLE = "Perceptual grouping of contrastive vision-language models, as measured."
"""Line at the head of every report; a file with it may be overwritten."""

MAX_SECTIONS, MAX_CHARACTERS = 8, 10_000_000
"""Most results whose sections the page may hold, and most characters of these sections.  Further
results are in its tables alone.
"""


def write_report(
    results: Sequence[Result], output: Path, grids: Sequence[GridResults] = ()
) -> None:
    """Write the page atomically, in place of an older report.

    Raises:
        ConfigError: a path that cannot hold the page, or a file that is not a report; or a result's
            arrays do not belong to its record.
    """
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: folder {output.parent} not found")
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise ConfigError(
            f"--output {output}: the report is an HTML page; name a file that ends in .html, such "
            "as report.html"
        )
    if output.exists() and SUBTITLE not in output.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"--output {output}: exists and is not a report; name another file")
    sections: list[Markup] = []
    for number, result in enumerate(results[:MAX_SECTIONS]):
        section = render_section(result, number)
        if sections and sum(map(len, (*sections, section))) > MAX_CHARACTERS:
            break
        sections.append(section)
    shown = [grid_page(grid, build_tables(grid, allow_mixed=True)) for grid in grids]
    title = results[0].label
    if len(results) > 1:
        title += f" and {len(results) - 1} more"
    # the tables of a grid compare its cells
    compared = len(results) > max([1, *(page.runs for page in shown)])
    page = render(
        HERE / "report.html",
        title=shown[0].design.title if shown else title,
        subtitle=SUBTITLE,
        results=results,
        grids=shown,
        grid_method=GRID_METHOD,
        headline=Table(
            f"Headline numbers, in [0, 1]. {OVER_IMAGES}",
            ["result", "metric", *HEADS, "protocol", "images"],
            [row for result in results for row in _headline_rows(result)],
            numbers=range(2, 4),
        ),
        comparison=compare(results, allow_mixed=True) if compared else None,
        differing=differing(results) if compared else (),
        method=METHOD,
        sections=sections,
    )
    write_whole(output, page)


def _headline_rows(result: Result) -> list[list[str]]:
    """Return a row for each headline metric of a result."""
    rows = []
    for metric in headlines([result]):
        entry = result.entry(metric)
        protocol = entry["protocol"]
        size = "" if "map_size" in protocol else f", {protocol.get('input_size', '?')} px"
        how = f"{protocol['name']}{size} ({protocol['digest'][:8]})"
        rows.append([result.label, metric, *numbers(result, metric), how, images_text(entry)])
    return rows
