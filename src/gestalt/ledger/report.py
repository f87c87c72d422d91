"""``report``: one HTML page of results that opens from disk and needs nothing beside it.

The best and worst images were kept when the set was scored, so that neither the model nor the data is needed here.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gestalt.config.schema import ConfigError
from gestalt.ledger import html
from gestalt.ledger.alike import facts
from gestalt.ledger.charts import Point, lines
from gestalt.ledger.compare import Comparison, compare
from gestalt.ledger.comparison_text import METHOD, columns_and_rows
from gestalt.ledger.result import Result, companions
from gestalt.ledger.sections import SECTIONS, interval_of, numbers
from gestalt.ledger.text import NONE, images_text
from gestalt.support.files import replacing

SAYS = "Perceptual grouping of contrastive vision-language models, as measured."
"""What each page of ours says at its head, and nothing else does: such a file may be written over."""

CURVE = 400
"""Points of a training curve, at most."""


def check_output(output: Path) -> None:
    """Refuse a place where no page can be, or where something else is.

    Raises:
        ConfigError: says what would be right.
    """
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}")
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise ConfigError(f"--output {output}: what is written is an HTML page; name a file that ends in .html, such as report.html")
    if output.exists() and SAYS not in output.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"--output {output}: exists, and is no report; name another file")


def write_report(results: Sequence[Result], output: Path) -> Path:
    """Write the page atomically, over an older one.

    Raises:
        ConfigError: as ``check_output``; or a result's files are not those of its record.
    """
    check_output(output)
    text = report(results)
    with replacing(output) as partial:
        partial.write_text(text, encoding="utf-8")
    return output


def report(results: Sequence[Result]) -> str:
    """The page."""
    title = results[0].label if len(results) == 1 else f"{results[0].label} and {len(results) - 1} more"
    links = [html.element("li", html.text("a", one.label, href=f"#result-{number}")) for number, one in enumerate(results)]
    parts = [
        html.text("h1", title),
        html.text("p", SAYS, class_="quiet"),
    ]
    parts += [html.element("nav", html.element("ul", *links))] if len(results) > 1 else []
    parts += [_headlines(results), *_comparison(results), *_resolutions(results)]
    parts += [_result(one, number=number) for number, one in enumerate(results)]
    return html.page(title, html.element("main", *parts))


def _headlines(results: Sequence[Result]) -> str:
    """Every headline number beside its baselines, with the protocol it was measured by."""
    rows = []
    for one in results:
        for metric in one.headlines():
            entry = next(iter(one.entries(metric)), {})
            beside = companions(one.record["metrics"], metric)
            said = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in beside.items()) or NONE
            protocol = entry.get("protocol", {})
            how = f"{protocol.get('name', '?')}, {protocol.get('input_size', '?')} px ({protocol.get('digest', '?')[:8]})"
            rows.append([one.label, metric, f"{one.value(metric):.3f}", interval_of(one, metric), said, how, images_text(entry)])
    heads = ("result", "metric", "value", "95 % over images", "beside it", "protocol", "images")
    return html.table(heads, rows, caption="Headline numbers, in [0, 1]", numbers=(2, 3))


def _comparison(results: Sequence[Result]) -> list[str]:
    """A table a metric that several results have by one protocol, on the same images: differences to the first of them."""
    if len(results) < 2:
        return []
    found = compare(results, allow_mixed=True)
    shared = [column for column in found.columns if len(column.cells) > 1]
    said = METHOD if shared else "No two of these results measured one metric in one way on the same images."
    parts = [html.text("h2", "Side by side"), html.text("p", said, class_="quiet")]
    for column in shared:
        rows = tuple(one for one in results if one.label in column.cells)
        heads, texts = columns_and_rows(Comparison(rows, (replace(column, how=""),)))
        parts.append(html.table(heads, texts, caption=column.title))
    notes = html.element("ul", *(html.text("li", note) for note in found.notes))
    return [*parts, html.details("What was measured differently, and what else a reader must know", notes)]


def _resolutions(results: Sequence[Result]) -> list[str]:
    """A chart a benchmark and weights that were scored at several input sizes and in nothing else differently."""
    families: dict[tuple[str, str, str], dict[float, Point]] = {}
    for one in results:
        for metric in one.headlines():
            known = facts(one, metric)
            size = known.pop("protocol.input_size", None)
            if size is not None:
                found = one.contribution(metric)
                sure = None if found is None else found.interval()
                rest = json.dumps({key: value for key, value in known.items() if key != "protocol.digest"}, sort_keys=True)
                key = (metric, str(one.record.get("weights_sha256")), rest)
                families.setdefault(key, {})[size] = Point(float(size), one.value(metric) or 0.0, sure)
    charts = []
    for (metric, weights, _), points in families.items():
        if len(points) > 1:
            title = f"{metric} over input size, weights {weights[:8]}"
            line = [points[size] for size in sorted(points)]
            charts.append(
                html.element(
                    "figure", lines([(metric, line)], title=title, across="input size, pixels", up=metric), html.text("figcaption", title)
                )
            )
    return [html.text("h2", "Resolution"), html.element("div", *charts, class_="two")] if charts else []


def _result(one: Result, *, number: int) -> str:
    """All that a record says."""
    record = one.record
    lead = f"{record.get('experiment')} at scale {record.get('scale')}, seed {record.get('seed')}"
    if record.get("steps") is not None:
        lead += f", {record['steps']} steps" + (f" of {record['steps_planned']}" if record["steps"] != record.get("steps_planned") else "")
    parts = [html.text("h2", one.label, id=f"result-{number}"), html.text("p", f"{lead}. {_from(record)}", class_="quiet"), *_curves(one)]
    for entry in record["benchmarks"]:
        measure = entry.get("measure") or entry.get("left_out", "")
        parts.append(html.text("h3", f"{entry['set']}: {measure}" if measure else entry["set"]))
        if "left_out" in entry:
            parts.append(html.text("p", f"Left out: {entry['why']}."))
        else:
            parts += [SECTIONS.get(measure, numbers)(one, entry), _protocol(entry)]
    return html.element("section", *parts, _provenance(one))


def _from(record: dict[str, Any]) -> str:
    init, origin = record.get("image_init", {}), record["provenance"]
    device = origin.get("machine", {}).get("device") or origin.get("machine", {}).get("accelerator", "unknown device")
    return f"Image tower from {init.get('used')} (asked: {init.get('asked')}), commit {str(origin.get('commit'))[:20]}, on {device}."


def _protocol(entry: dict[str, Any]) -> str:
    pairs = [(key, json.dumps(value) if not isinstance(value, str) else value) for key, value in entry.get("protocol", {}).items()]
    pairs += [(key, entry[key]) for key in ("label_set", "vocabulary", "templates", "calibration") if entry.get(key) is not None]
    return html.details(f"Protocol of {entry.get('measure', entry['set'])}", html.definitions(pairs))


def _provenance(one: Result) -> str:
    record, origin = one.record, one.record["provenance"]
    pairs: list[tuple[str, object]] = [("file", one.path)]
    pairs += [(key, record[key]) for key in ("format", "config_hash", "checkpoint", "checkpoint_sha256", "weights_sha256") if key in record]
    pairs += [(f"arrays of {name}", f"{said['file']} {said['sha256']}") for name, said in record.get("arrays", {}).items()]
    pairs += [("overrides", " ".join(record.get("overrides", [])) or NONE), ("ranks", record.get("ranks", "not recorded"))]
    pairs += [("commit", origin.get("commit")), ("changed files", origin.get("dirty", "not recorded")), ("python", origin.get("python"))]
    pairs += [(key, value) for key, value in origin.get("packages", {}).items()]
    pairs += [(key, value) for key, value in origin.get("machine", {}).items()]
    return html.details("Provenance", html.definitions(pairs))


def _curves(one: Result) -> list[str]:
    """Loss and headline metrics over steps, of a run whose events are there; an evaluation has none."""
    if one.path.parent != one.run or not list(one.run.glob("events.out.tfevents*")):
        return []
    scalars = _scalars(one.run)
    charts = []
    for tag in ("train/loss", *one.headlines()):
        if len(scalars.get(tag, [])) > 1:
            drawn = lines([(tag, scalars[tag])], title=f"{tag} over steps", across="step", up=tag, from_zero=tag != "train/loss")
            charts.append(html.element("figure", drawn))
    return [html.details("Training", html.element("div", *charts, class_="two"))] if charts else []


def _scalars(run: Path) -> dict[str, list[Point]]:
    """What TensorBoard's events hold, the last value of each step, thinned evenly."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(run), size_guidance={SCALARS: 0})
    events.Reload()
    found = {}
    for tag in events.Tags()["scalars"]:
        steps = {event.step: Point(float(event.step), float(event.value)) for event in events.Scalars(tag)}
        points = [steps[step] for step in sorted(steps)]
        found[tag] = points[:: max(1, len(points) // CURVE)]
    return found
