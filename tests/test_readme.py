"""The README's commands name what is there, and the paper's numbers in it are those of the grids."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from gestalt.config.loading import load
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.studies.grid import read_grid
from gestalt.support.names import nearest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"`(make (?:train|eval|ablate) [^`]*)`", README)))
PAPER_GRIDS = ("frozen_towers", "initialisation", "aggregation", "token_subsampling")


def variables(command: str) -> dict[str, str]:
    """``EXP=a ARGS="b=c d=e"`` by name."""
    return dict(word.split("=", 1) for word in shlex.split(command)[2:])


@pytest.mark.parametrize("command", [one for one in COMMANDS if not re.search(r"\.\.\.|[{<]", one)])
def test_a_command_names_what_is_there(command, tmp_path):
    said = variables(command)
    overrides = [word.replace("DIR", str(tmp_path)) for word in said.get("ARGS", "").split() if "=" in word]
    for name in filter(None, said.get("BENCH", "").split(",")):
        assert name in BENCHMARKS, nearest(name, sorted(BENCHMARKS))
    if "BENCH" in said:
        overrides.append(f"evaluation.benchmarks=[{said['BENCH']}]")
    if "PROTOCOL" in said:
        overrides.append(f"evaluation.protocol={said['PROTOCOL']}")
    if "GRID" in said:
        assert read_grid(said["GRID"], scale=said.get("SCALE", "demo"), overrides=(), choose=()).cells
    else:
        scale = said.get("SCALE", "demo" if "EXP" in said else "cc12m")  # what make takes, and what a checkpoint of the paper's is of
        load(said.get("EXP") or said["CKPT"], scale=scale, overrides=[*(["data.root=x"] if scale == "cc12m" else []), *overrides])


def test_each_table_of_the_paper_has_its_command():
    section = README[README.index("### The paper's tables") :]
    for table in range(1, 11):
        assert re.search(rf"^\| {table} \|.*`make ", section, flags=re.MULTILINE), f"table {table}"


@pytest.mark.parametrize("name", PAPER_GRIDS)
def test_the_papers_numbers_are_those_of_the_grid(name):
    paper = yaml.safe_load((ROOT / "experiments" / "ablations" / f"{name}.yaml").read_text())["paper"]
    start = README.index(f"`make ablate GRID={name}` |")
    rows = README[start:].split("\n")[: len(paper["cells"])]
    expected = [list(cell.values()) for cell in paper["cells"].values()]
    assert [[float(number) for number in re.findall(r"\d+\.\d", row.split("|")[-4])] for row in rows] == expected
