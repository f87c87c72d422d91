"""README.md and docs/: commands, keys, paths, links and the paper's numbers in them agree with the
code.
"""

import math
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import gestalt
from gestalt.__main__ import parse
from gestalt.ablation.grid import read_grid
from gestalt.commands import COMMANDS as PROGRAM
from gestalt.config.folders import EXPERIMENTS
from gestalt.config.loading import load
from gestalt.config.schema import Experiment
from gestalt.losses.contrastive import contrastive_loss
from gestalt.losses.terms import Pairs
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.models.zoo.open_clip import check_tag
from gestalt.support.typed import fields_below
from gestalt.tables import Aggregation
from gestalt.tokens import Tokens
from tests.test_imports import LADDER

ROOT = Path(__file__).resolve().parents[1]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in FILES}
RESULTS = PAGES["docs/results.md"]
PAPER_GRIDS = ("frozen_towers", "initialisation", "aggregation", "token_subsampling")
# median: the aggregation of the tutorial's own package
PLACEHOLDER = re.compile(r"\.\.\.|<|\b(FILE|FOLDER|RUN|CKPT|TAG|KEY|median)\b")
GROUPS = "image|text|projection|loss|optimizer|data|pretraining|evaluation|trainer"


def spans(text):
    """Inline code, and each line of code blocks with its continuation, without comments."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)] + [
        re.sub(r"\s# .*", "", line).strip() for line in lines
    ]


COMMANDS = sorted(
    {
        re.sub(r"^(\.venv/bin/|torchrun .*? -m )?(?=gestalt )", "", span)
        for text in PAGES.values()
        for span in spans(text)
        if re.match(r"make [a-z]|(\.venv/bin/)?gestalt [a-z-]|torchrun .*-m gestalt ", span)
    }
)


def program_words(command):
    """The words behind ``gestalt``; those of ``make`` are what it would run, None where it runs
    something else.
    """
    if not command.startswith("make "):
        return shlex.split(command)[1:]
    done = subprocess.run(
        ["make", "-n", *shlex.split(command)[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [
        line.rpartition(" -m gestalt ")[2]
        for line in done.stdout.splitlines()
        if " -m gestalt " in line
    ]
    return shlex.split(lines[-1]) if lines else None


def check_names(words, *, folder):
    """Load what a command of the program names: an experiment, a scale, a grid, benchmarks,
    protocols, keys.
    """
    arguments, command = parse(words), words[0]
    overrides = [re.sub(r"\bDIR\b", str(folder), word) for word in arguments.overrides]
    named = (getattr(arguments, key, None) for key in ("experiment", "grid", "bench"))
    file = str(next(filter(None, named), ""))
    if file.startswith("./"):  # of the reader's own
        return
    if command in ("train", "features"):
        load(file, scale=arguments.scale, overrides=overrides)
    elif command == "ablate":
        grid = "aggregation_by_init" if "=" in file or not file else file
        assert read_grid(
            grid, scale=arguments.scale, overrides=tuple(overrides), choose=tuple(arguments.choose)
        ).cells
    elif command == "eval":
        load(
            "clippy_dino_max",
            scale="cc12m",
            overrides=[
                "data.root=x",
                f"benchmark_root={folder}",
                *(word for word in overrides if "=" in word),
            ],
        )
    elif command == "score":
        words = [
            f"evaluation.benchmarks=[{arguments.bench}]",
            f"benchmark_root={folder}",
            *overrides,
        ]
        load(None, scale=None, overrides=["data.source=scenes", *words])
    elif words[:2] == ["data", "get"]:
        arguments.module.check(arguments)
    elif command in ("data", "pretrain"):
        load(
            None,
            scale=arguments.scale,
            overrides=["evaluation.benchmarks=[]", "image.init=random", *overrides],
        )
    for target in [
        getattr(arguments, name) for name in ("target", "ckpt") if getattr(arguments, name, None)
    ]:
        assert not target.isidentifier() or (EXPERIMENTS / f"{target}.yaml").exists(), target
    for target in [*getattr(arguments, "targets", []), *getattr(arguments, "models", [])]:
        assert not target.isidentifier() or (EXPERIMENTS / f"{target}.yaml").exists(), target


def test_the_papers_miou_stands_beside_commands_of_the_protocol_that_reads_it():
    pattern = r"^\| \w \|.* mIoU.*`make .*|^ARGS=.*imagenet\].*"
    rows = re.findall(pattern, RESULTS, re.MULTILINE)
    assert ["clippy-paper" in row for row in rows] == [True, True, True]


def test_commands_name_what_exists(tmp_path):
    """``make -n`` refuses a target that is missing; a misspelt variable of it would be ignored."""
    variables = set(re.findall(r"^(\w+) *\?=", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for command in COMMANDS:
        if command.startswith("make "):
            assert set(re.findall(r" ([A-Z_]+)=", command)) <= variables, command
        words = program_words(command)
        if words is None or words[0].startswith("-"):
            continue
        assert words[0] in PROGRAM, command
        rest = [word for word in shlex.split(command)[2:] if not word.startswith("--")]
        # without the arguments that it needs
        is_mention = not rest or (words[0] == "data" and len(words) == 2)
        if is_mention or PLACEHOLDER.search(re.sub(r"zoo:\S+", "", " ".join(words))):
            continue
        try:
            check_names(words, folder=tmp_path)
        except (ValueError, SystemExit) as error:
            raise AssertionError(f"{command}: {error}") from error


def test_published_weights_of_open_clip_are_named_as_it_takes_them():
    for text in PAGES.values():
        for name in re.findall(r"open_clip:([\w-]+:[\w-]+)", text):
            if name != "ARCHITECTURE:TAG":
                check_tag(name)


def named_keys(text):
    """Configuration keys in inline code and in words such as ``key=value``."""
    for span in spans(text):
        yield from re.findall(rf"(?<![\w./-])(?:{GROUPS})\.[a-z_]+(?:\.[a-z_]+)*(?![\w(/])", span)


def test_configuration_keys_exist():
    known = [f"{name}." for name, _ in fields_below(Experiment)]
    for page, text in PAGES.items():
        for key in named_keys(text):
            found = [
                name for name in known if name.startswith(f"{key}.") or f"{key}.".startswith(name)
            ]
            assert found or key.endswith(".py"), f"{page}: {key}"


def test_files_and_links_exist():
    others = ("CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
    for page, text in (PAGES | {name: (ROOT / name).read_text() for name in others}).items():
        for span in spans(text):
            if (
                re.match(r"(src|data_modules|tests|experiments|docs|slurm)/[\w./*-]*$", span)
                and "NAME" not in span
            ):
                assert list(ROOT.glob(span.rstrip("/"))), f"{page}: {span}"
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            if not re.match(r"https?://|../../actions/", target):  # GitHub's own pages
                file = (ROOT / page).parent / path if path else ROOT / page
                assert file.exists(), f"{page}: {target}"
                assert not anchor or anchor in anchors(file.read_text()), f"{page}: {target}"


def anchors(text):
    """The anchors that a forge gives to headings."""
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_a_page_names_every_row():
    rows = {
        "docs/benchmarks.md": BENCHMARKS,
        "docs/evaluation.md": [
            name for measure in MEASURES.values() if measure.key for name in measure.protocols
        ],
        "docs/data.md": [
            path.stem for path in (ROOT / "data_modules" / "sources").glob("[!_]*.py")
        ],
        "docs/ablations.md": [path.stem for path in (EXPERIMENTS / "ablations").glob("*.yaml")],
        "docs/training.md": [
            path.stem
            for path in (*EXPERIMENTS.glob("*.yaml"), *(EXPERIMENTS / "scales").glob("*.yaml"))
        ],
        # not those of the site alone
        "README.md": [page for page in PAGES if page[:5] == "docs/" and "```{" not in PAGES[page]],
    }
    for page, names in rows.items():
        assert not [
            name
            for name in names
            if f"`{name}`" not in PAGES[page] and f"({name})" not in PAGES[page]
        ], page


def test_the_tree_names_every_room():
    tree = re.search(
        r"## The tree\n\n```text\n(.*?)```", PAGES["docs/architecture.md"], flags=re.DOTALL
    )[1]
    for folder in ("src/gestalt", "data_modules"):
        start = tree.index(f"{folder}/ ")
        section = re.match(r".*\n((?:  .*\n)*)", tree[start:])[1]
        named = set(re.findall(r"^  (\w+)/", section, flags=re.MULTILINE))
        rooms = [path.parent for path in (ROOT / folder).glob("*/__init__.py")]
        assert named == {room.name for room in rooms if not room.is_symlink()}


def test_the_documented_layers_of_imports_match_the_code():
    drawn = re.search(
        r"## Layers of imports\n.*?```text\n(.*?)```",
        PAGES["docs/architecture.md"],
        flags=re.DOTALL,
    )[1]
    assert [set(rung.split(", ")) for rung in " ".join(drawn.split()).split(" > ")] == list(LADDER)


def test_each_table_of_the_paper_has_its_command():
    section = RESULTS[RESULTS.index("## The paper's tables") :]
    for table in range(1, 11):
        assert re.search(rf"^\| {table} \|.*`make ", section, flags=re.MULTILINE), f"table {table}"


def test_the_paper_numbers_in_the_results_match_the_grids():
    for name in PAPER_GRIDS:
        paper = yaml.safe_load((EXPERIMENTS / "ablations" / f"{name}.yaml").read_text())["paper"]
        start = RESULTS.index(f"`make ablate GRID={name}` |")
        rows = RESULTS[start:].split("\n")[: len(paper["cells"])]
        expected = [list(cell.values()) for cell in paper["cells"].values()]
        assert [
            [float(number) for number in re.findall(r"\d+\.\d", row.split("|")[-3])] for row in rows
        ] == expected, name


def columns(page, name):
    """The columns behind the first row of a page that has this name."""
    return re.search(rf"^\| {name} \|(.*)\|$", PAGES[page], flags=re.MULTILINE)[1].split("|")


def percent(column):
    """The first two numbers of a column of the results page, in percent."""
    return [round(float(number) * 100, 1) for number in re.findall(r"\d\.\d+", column)[:2]]


def test_the_headline_table_matches_the_results_page():
    grid = yaml.safe_load((EXPERIMENTS / "ablations" / "aggregation.yaml").read_text())
    for name, cell, pooling in (
        ("max", "max", "max over feature cells"),
        ("average", "avg", "average over feature cells"),
        ("class token", "cls", "global average pooling"),
    ):
        paper, ours = grid["paper"]["cells"][cell], columns("docs/results.md", name)
        for shown, expected in (
            (name, [*percent(ours[0]), *percent(ours[2])[:1]]),
            (f"{name} of the paper", [paper["miou"], paper["accuracy"]]),
            (
                pooling,
                [one for part in columns("docs/results.md", pooling)[:2] for one in percent(part)],
            ),
        ):
            text = " ".join(columns("README.md", shown))
            assert [float(number) for number in re.findall(r"\d+\.\d", text)] == expected


def test_each_line_of_the_security_page_names_a_test_that_exists():
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    rows = re.findall(r"^- .*(?:\n  .*)*", PAGES["docs/security.md"], flags=re.MULTILINE)
    assert rows
    for row in rows:
        (name,) = re.findall(r"`(test_\w+)`", row)
        assert f"def {name}(" in sources, name


def test_the_citation_has_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = re.search(r"^version = (.+)$", (ROOT / "setup.cfg").read_text(), flags=re.MULTILINE)[
        1
    ]
    assert (citation["version"], citation["license"]) == (version, "Apache-2.0")
    assert gestalt.__version__ == version
    assert f"\n## {version} - {citation['date-released']}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert "arXiv:2210.09996" in str(citation["references"])


def test_the_examples_of_additions_compute_what_they_say(tmp_path):
    blocks = re.findall(
        r"^```python\n(.*?)^```",
        PAGES["docs/contributing.md"],
        flags=re.MULTILINE | re.DOTALL,
    )
    names = {"Aggregation": Aggregation}
    for block in blocks:
        exec(compile(block, "docs/contributing.md", "exec"), names)
    parts = torch.tensor([[[1.0], [5.0], [9.0], [99.0]]])
    mask = torch.tensor([[True, True, True, False]])
    assert names["median"](Tokens(None, parts, mask, None)).tolist() == [[5.0]]
    for folder, value in (("images", 200), ("masks", 1)):
        (tmp_path / folder).mkdir()
        suffix = "jpg" if folder == "images" else "png"
        Image.new("L", (8, 6), value).save(tmp_path / folder / f"one.{suffix}")
    image_set = names["open_here"](root=str(tmp_path), split=None, limit=None, label_sets=None)
    assert image_set.sample(0)["labels"]["mine"].unique().tolist() == [1]
    image, text = torch.eye(2), torch.eye(2).flip(0)
    pairs = Pairs(image, text, *(None,) * 8)._replace(text_id=torch.arange(2))
    assert float(names["build"](None)(pairs)) == 2
    shared = {"text_id": torch.arange(2), "directions": "sum", "equal_texts": "negatives"}
    assert names["warm"](
        image, text, logit_scale=torch.tensor(1.0), **shared
    ).loss == pytest.approx(
        contrastive_loss(image, text, logit_scale=torch.tensor(1 - math.log(2)), **shared).loss
    )
