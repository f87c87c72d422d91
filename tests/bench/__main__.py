"""Time the parts of Gestalt, in one process: python tests/bench [--json FILE] [--only PART ...].

training: the step at 100, 50 and 20 % of the tokens, taken in turns so that a busy machine slows
all three.  loss: the contrastive loss beside open_clip's.  rival: the step against open_clip's own
loop.  evaluation: top-down evaluation against a plain implementation.  loading: images a second
from photographs.  gpu: samples a second, MFU and memory of ViT-B/16 on a CUDA device; left out
where there is none.  Each number is a median; each part takes minutes.  What our commands set for
their whole process, the allocator, is set for both sides.
"""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas

from gestalt.results.record import provenance
from gestalt.support.process import keep_freed_memory

PARTS = ("training", "loss", "rival", "evaluation", "loading", "gpu")
"""Each is the file of that name; only what runs is imported.

``measure`` returns a title, rows of numbers, and which targets are reached; or None where a part is
left out, for the reason in ``LEFT_OUT``.
"""


def main() -> int:
    """Measure, print, write.  Returns the exit status: 2 if ``--only gpu`` finds no device."""
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the numbers to this file too")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="run some parts")
    parser.add_argument("--page", action="store_true", help="print Markdown that names the machine")
    gpu = parser.add_argument_group("the part gpu")
    gpu.add_argument("--batch", type=int, help="pairs a step, 256 unless given")
    gpu.add_argument(
        "--tiny",
        action="store_true",
        help="towers of two layers, 32 wide, without a GPU too, for trying the code",
    )
    options = parser.parse_args()
    keep_freed_memory()
    results: dict[str, Any] = {}
    if options.page:
        print("\n".join([*heading(provenance()), "", "```text"]))
    for name in options.only or PARTS:
        part = import_module(name)
        keywords = {"tiny": options.tiny, "batch": options.batch} if name == "gpu" else {}
        results[name] = part.measure(**keywords)
        print("\n".join(shown(results[name])) if results[name] else part.LEFT_OUT, end="\n\n")
    if options.page:
        print("```")
    if options.json is not None:
        options.json.write_text(
            json.dumps({**results, "provenance": provenance()}, indent=1) + "\n"
        )
    return 2 if options.only and "gpu" in options.only and results["gpu"] is None else 0


def heading(known: dict[str, Any]) -> list[str]:
    """Return the lines of a page on what was measured, and on which machine."""
    versions = [f"{name} {known['packages'][name]}" for name in ("gestalt", "torch", "timm")]
    machine = ", ".join(f"{key} {value}" for key, value in known["machine"].items())
    return [
        f"Gestalt at {known['commit']}, {', '.join(versions)}, Python {known['python']}",
        "",
        f"Machine: {machine}",
    ]


def shown(results: dict[str, Any]) -> list[str]:
    """Return the lines of a part."""
    table = pandas.DataFrame(results["rows"])
    targets = results.get("targets", {}).items()
    return [
        results["title"],
        table.to_string(index=False, na_rep="", float_format="{:,.3f}".format),
        *(f"target: {target}: {'yes' if reached else 'NO'}" for target, reached in targets),
    ]


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))  # for helpers of the tests
    sys.exit(main())
