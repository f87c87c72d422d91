"""``report``: one HTML page of results that fetches nothing, by the template ``report.html``; what
does not fit into the page lies in pages beside it.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from gestalt.results.comparability import measurement
from gestalt.results.compare import METHOD, compare, differing
from gestalt.results.grid import METHOD as GRID_METHOD
from gestalt.results.grid import GridResults, build_tables
from gestalt.results.grid_page import GridPage, grid_page
from gestalt.results.plots import Point, line_chart
from gestalt.results.result import Result, headlines
from gestalt.results.section import HEADS, numbers, render_section
from gestalt.results.templates import HERE, render
from gestalt.results.text import OVER_IMAGES, Table, images_text
from gestalt.support.files import write_whole
from gestalt.support.typed import ConfigError

SUBTITLE = "Perceptual grouping of contrastive vision-language models, as measured."
"""Line at the head of every report; a file with it may be overwritten."""

MAX_SECTIONS, MAX_CHARACTERS = 8, 10_000_000
"""Most results whose sections the page may hold, and most characters of these sections.  Each
further section is a page of its own.
"""


def write_report(
    results: Sequence[Result], output: Path, grids: Sequence[GridResults] = ()
) -> list[Path]:
    """Write the page atomically, and before it the pages of the results that do not fit into it, in
    a folder beside it.  An older report is overwritten; its pages that this one lacks are deleted.

    Returns:
        The page, then those beside it.

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
    beside = output.with_name(f"{output.stem}_results")
    pages = [beside / f"result-{number}.html" for number in range(len(results))]
    for path in (output, *pages):
        if path.exists() and not _is_report(path):
            raise ConfigError(f"--output {path}: exists and is not a report; name another file")
    sections = [render_section(result, number) for number, result in enumerate(results)]
    sizes = accumulate(map(len, sections[:MAX_SECTIONS]))
    inside = sum(size <= MAX_CHARACTERS for size in sizes)
    links = [f"#result-{number}" for number in range(inside)]
    links += [quote(f"{beside.name}/{path.name}") for path in pages[inside:]]
    shown = [grid_page(grid, build_tables(grid, allow_mixed=True)) for grid in grids]
    whole = _page(results, sections[:inside], links=links, grids=shown)
    for result, section, path in list(zip(results, sections, pages, strict=True))[inside:]:
        write_whole(path, _page([result], [section], whole=quote(f"../{output.name}")))
    write_whole(output, whole)
    for path in {*beside.glob("result-*.html")} - {*pages[inside:]}:  # of an earlier report
        if path.stem.removeprefix("result-").isdecimal() and _is_report(path):
            path.unlink()
    return [output, *pages[inside:]]


def _is_report(path: Path) -> bool:
    return SUBTITLE in path.read_text(encoding="utf-8", errors="replace")


def _page(
    results: Sequence[Result],
    sections: Sequence[Markup],
    *,
    links: Sequence[str] = (),
    grids: Sequence[GridPage] = (),
    whole: str = "",
) -> str:
    """Return a page.

    Args:
        results: its rows.
        sections: the sections that it holds.
        links: addresses of all sections, for several results.
        grids: the grids that it shows.
        whole: address of the page of all results, from a page beside it.
    """
    title = results[0].label
    if len(results) > 1:
        title += f" and {len(results) - 1} more"
    # the tables of a grid compare its cells
    compared = len(results) > max([1, *(page.runs for page in grids)])
    return render(
        HERE / "report.html",
        title=grids[0].design.title if grids else title,
        subtitle=SUBTITLE,
        results=results,
        links=links,
        whole=whole,
        grids=grids,
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
        resolutions=_resolutions(results),
        sections=sections,
    )


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


def _resolutions(results: Sequence[Result]) -> dict[str, Markup]:
    """Draw a chart for each metric and weights that were scored at several input sizes, all else
    equal.  Returns addresses by title.
    """
    families: dict[tuple[str, str, str], dict[float, Result]] = defaultdict(dict)
    for result in results:
        for metric in headlines([result]):
            settings = measurement(result, metric) | {"protocol.digest": None}
            size = settings.pop("protocol.input_size", None)
            if size is not None:
                weights = str(result.record.get("weights_sha256"))
                families[metric, weights, json.dumps(settings, sort_keys=True)][size] = result
    charts = {}
    for (metric, weights, _), by_size in families.items():
        if len(by_size) > 1:
            title = f"{metric} over input size, weights {weights[:8]}"
            points = [
                Point(float(size), result.value(metric) or 0.0, result.interval(metric))
                for size, result in sorted(by_size.items())
            ]
            charts[title] = line_chart(metric, points, title=title, x_label="input size, pixels")
    return charts
