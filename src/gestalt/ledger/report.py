"""``report``: one self-contained HTML page of results.

The best and worst images were kept when the set was scored, so neither the model nor the data is needed.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gestalt.config.schema import ConfigError
from gestalt.ledger import html
from gestalt.ledger.charts import Point, lines
from gestalt.ledger.comparability import measurement
from gestalt.ledger.compare import Comparison, compare, differing
from gestalt.ledger.comparison_text import METHOD, heads_and_rows
from gestalt.ledger.result import Result, companions, headlines
from gestalt.ledger.sections import SECTIONS, numbers
from gestalt.ledger.text import NONE, OVER_IMAGES, images_text, interval_text
from gestalt.support.files import replacing
from gestalt.training.board import logged_key

SUBTITLE = "Perceptual grouping of contrastive vision-language models, as measured."
"""Line at the head of every report; a file with it may be overwritten."""

CURVE_POINTS = 400
"""Largest number of points of a training curve."""


def check_output(output: Path) -> None:
    """Refuse a path that cannot hold the page, or a file that is not a report.

    Raises:
        ConfigError: names the path and the fix.
    """
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: folder {output.parent} not found")
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise ConfigError(f"--output {output}: the report is an HTML page; name a file that ends in .html, such as report.html")
    if output.exists() and SUBTITLE not in output.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"--output {output}: exists and is not a report; name another file")


def write_report(results: Sequence[Result], output: Path) -> Path:
    """Write the page atomically; an older report is overwritten.

    Raises:
        ConfigError: as ``check_output``; or a result's arrays do not belong to its record.
    """
    check_output(output)
    text = report(results)
    with replacing(output) as partial:
        partial.write_text(text, encoding="utf-8")
    return output


def report(results: Sequence[Result]) -> str:
    """Return the page."""
    title = results[0].label if len(results) == 1 else f"{results[0].label} and {len(results) - 1} more"
    links = [html.element("li", html.text("a", result.label, href=f"#result-{number}")) for number, result in enumerate(results)]
    parts = [
        html.text("h1", title),
        html.text("p", SUBTITLE, class_="quiet"),
        *([html.element("nav", html.element("ul", *links))] if len(results) > 1 else []),
        _headlines(results),
        *_comparison(results),
        *_resolutions(results),
        *(_result(result, number=number) for number, result in enumerate(results)),
    ]
    return html.page(title, html.element("main", *parts))


def _headlines(results: Sequence[Result]) -> str:
    """List every headline number with its baselines and its protocol."""
    rows = []
    for result in results:
        for metric in headlines([result]):
            entry = result.entry(metric)
            baselines = companions(result.record["metrics"], metric)
            beside = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in baselines.items()) or NONE
            protocol = entry.get("protocol", {})
            size = f", {protocol.get('input_size', '?')} px" if "map_size" not in protocol else ""  # of label maps it is not known
            described = f"{protocol.get('name', '?')}{size} ({protocol.get('digest', '?')[:8]})"
            score = [f"{result.value(metric):.3f}", interval_text(result.interval(metric), sign="")]
            rows.append([result.label, metric, *score, beside, described, images_text(entry)])
    heads = ("result", "metric", "value", "95 % over images", "baselines", "protocol", "images")
    return html.table(heads, rows, caption=f"Headline numbers, in [0, 1]. {OVER_IMAGES}", numbers=(2, 3))


def _comparison(results: Sequence[Result]) -> list[str]:
    """Make a table for each metric that several results share, with differences to the first of them."""
    if len(results) < 2:
        return []
    comparison = compare(results, allow_mixed=True)
    shared = [column for column in comparison.columns if len(column.scores) > 1]
    lead = METHOD if shared else "No metric was measured in the same way, on the same images, by two of these results."
    parts = [html.text("h2", "Side by side"), html.text("p", lead, class_="quiet")]
    for column in shared:
        scored = tuple(result for result in results if result.label in column.scores)
        heads, rows = heads_and_rows(Comparison(scored, (replace(column, distinction=""),)))
        parts.append(html.table(heads, rows, caption=column.title))
    notes = [html.element("ul", *(html.text("li", note) for note in comparison.notes))]
    notes += [html.table(heads, rows, caption=f"{title}: settings that differ") for title, (heads, rows) in differing(results).items()]
    return [*parts, html.details("Differences in measurement, and notes", *notes)]


def _resolutions(results: Sequence[Result]) -> list[str]:
    """Draw a chart for each metric and weights that were scored at several input sizes, all else equal."""
    families: dict[tuple[str, str, str], dict[float, Point]] = {}
    for result in results:
        for metric in headlines([result]):
            settings = measurement(result, metric)
            size = settings.pop("protocol.input_size", None)
            settings.pop("protocol.digest", None)
            if size is not None:
                family = (metric, str(result.record.get("weights_sha256")), json.dumps(settings, sort_keys=True))
                point = Point(float(size), result.value(metric) or 0.0, result.interval(metric))
                families.setdefault(family, {})[size] = point
    charts = []
    for (metric, weights, _), points in families.items():
        if len(points) > 1:
            title = f"{metric} over input size, weights {weights[:8]}"
            chart = lines([(metric, [points[size] for size in sorted(points)])], title=title, x_label="input size, pixels", y_label=metric)
            charts.append(html.element("figure", chart, html.text("figcaption", title)))
    return [html.text("h2", "Resolution"), html.element("div", *charts, class_="two")] if charts else []


def _result(result: Result, *, number: int) -> str:
    """Show a whole record."""
    record = result.record
    lead = f"{record.get('experiment')} at scale {record.get('scale')}, seed {record.get('seed')}"
    lead = f"Label maps of {record.get('name')}" if "predictions" in record else lead
    if record.get("steps") is not None:
        planned = record.get("steps_planned", record["steps"])
        lead += f", {record['steps']} steps" + (f" of {planned}" if record["steps"] != planned else "")
    parts = [html.text("h2", result.label, id=f"result-{number}"), html.text("p", f"{lead}. {_origin(record)}", class_="quiet")]
    parts += _curves(result)
    for entry in record["benchmarks"]:
        measure = entry.get("measure") or entry.get("left_out", "")
        parts.append(html.text("h3", f"{entry['set']}: {measure}" if measure else entry["set"]))
        if "left_out" in entry:
            parts.append(html.text("p", f"Left out: {entry['why']}."))
        else:
            parts += [SECTIONS.get(measure, numbers)(result, entry), _protocol(entry)]
    return html.element("section", *parts, _provenance(result))


def _origin(record: dict[str, Any]) -> str:
    init, provenance = record.get("image_init", {}), record["provenance"]
    if "predictions" in record:
        stated = "; ".join(f"{key}: {value}" for key, value in record["predictions"]["notes"].items()) or "nothing"
        return f"Predicted by another system and counted here, commit {str(provenance.get('commit'))[:20]}. Their maker states {stated}."
    device = provenance.get("machine", {}).get("device") or provenance.get("machine", {}).get("accelerator", "unknown device")
    return f"Image tower from {init.get('used')} (asked: {init.get('asked')}), commit {str(provenance.get('commit'))[:20]}, on {device}."


def _protocol(entry: dict[str, Any]) -> str:
    pairs = [(key, json.dumps(value) if not isinstance(value, str) else value) for key, value in entry.get("protocol", {}).items()]
    pairs += [(key, entry[key]) for key in ("label_set", "vocabulary", "templates", "calibration") if entry.get(key) is not None]
    return html.details(f"Protocol of {entry.get('measure', entry['set'])}", html.definitions(pairs))


def _provenance(result: Result) -> str:
    record, provenance = result.record, result.record["provenance"]
    pairs: list[tuple[str, object]] = [("file", result.path)]
    pairs += [
        (key, record[key])
        for key in ("format", "config_hash", "checkpoint", "checkpoint_sha256", "run", "weights_sha256")
        if record.get(key) is not None
    ]
    pairs += [(f"label maps: {key}", value) for key, value in record.get("predictions", {}).items() if isinstance(value, str | int)]
    pairs += [(f"arrays of {name}", f"{file['file']} {file['sha256']}") for name, file in record.get("arrays", {}).items()]
    pairs += [("overrides", " ".join(record.get("overrides", [])) or NONE), ("ranks", record.get("ranks", "not recorded"))]
    pairs += [("commit", provenance.get("commit")), ("changed files", provenance.get("dirty", "not recorded"))]
    pairs += [("python", provenance.get("python")), *provenance.get("packages", {}).items(), *provenance.get("machine", {}).items()]
    return html.details("Provenance", html.definitions(pairs))


def _curves(result: Result) -> list[str]:
    """Draw loss and headline metrics over steps if the run's events are kept; an evaluation has none."""
    if result.is_evaluation or not list(result.run.glob("events.out.tfevents*")):
        return []
    scalars = _scalars(result.run)
    charts = []
    for tag in ("train/loss", *headlines([result])):
        if len(scalars.get(tag, [])) > 1:
            chart = lines([(tag, scalars[tag])], title=f"{tag} over steps", x_label="step", y_label=tag, from_zero=tag != "train/loss")
            charts.append(html.element("figure", chart))
    return [html.details("Training", html.element("div", *charts, class_="two"))] if charts else []


def _scalars(run: Path) -> dict[str, list[Point]]:
    """Read TensorBoard's events by their keys: the last value of each step, thinned evenly."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(run), size_guidance={SCALARS: 0})
    events.Reload()
    scalars = {}
    for tag in events.Tags()["scalars"]:
        steps = {event.step: Point(float(event.step), float(event.value)) for event in events.Scalars(tag)}
        points = [steps[step] for step in sorted(steps)]
        scalars[logged_key(tag)] = points[:: max(1, len(points) // CURVE_POINTS)]
    return scalars
