"""README.md and docs/: commands, keys, paths, links and the paper's numbers in them agree with the code."""

import re
import shlex
import subprocess
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from gestalt.commands.arguments import COMMANDS as PROGRAM
from gestalt.commands.arguments import parse
from gestalt.config.loading import EXPERIMENTS, load
from gestalt.config.schema import MADE_INITS, Experiment
from gestalt.evaluation import protocols
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.studies.grid import read_grid
from tests.test_imports import LADDER

ROOT = Path(__file__).resolve().parents[1]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
RESULTS = PAGES["docs/results.md"]
PAPER_GRIDS = ("frozen_towers", "initialisation", "aggregation", "token_subsampling")
PLACEHOLDER = re.compile(r"\.\.\.|<|\b(FILE|FOLDER|RUN|CKPT|TAG|KEY)\b")
GROUPS = "image|text|projection|loss|optimizer|data|pretraining|evaluation|trainer"


def spans(text):
    """Inline code, and each line of code blocks with its continuation, without comments."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)] + [re.sub(r"\s# .*", "", line).strip() for line in lines]


COMMANDS = sorted(
    {
        re.sub(r"^(\.venv/bin/|torchrun .*? -m )?(?=gestalt )", "", span)
        for page, text in PAGES.items()
        if page != "docs/changes.md"  # it names what left
        for span in spans(text)
        if re.match(r"make [a-z]|(\.venv/bin/)?gestalt [a-z-]|torchrun .*-m gestalt ", span)
    }
)


def program_words(command):
    """The words behind ``gestalt``; those of ``make`` are what it would run, None where it runs something else."""
    if not command.startswith("make "):
        return shlex.split(command)[1:]
    done = subprocess.run(["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.rpartition(" -m gestalt ")[2] for line in done.stdout.splitlines() if " -m gestalt " in line]
    return shlex.split(lines[-1]) if lines else None


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_make_targets_and_variables_exist(command):
    makefile = (ROOT / "Makefile").read_text()
    for word in shlex.split(command)[1:]:
        name, sign, _ = word.partition("=")
        pattern = rf"^{name} *\?=" if sign else rf"^{name}:"
        assert re.search(pattern, makefile, flags=re.MULTILINE), f"{name} is not in the Makefile"


def check_names(words, *, folder):
    """Load what a command of the program names: an experiment, a scale, a grid, benchmarks, protocols, keys."""
    arguments, command = parse(words), words[0]
    overrides = [re.sub(r"\bDIR\b", str(folder), word) for word in arguments.overrides]
    file = str(getattr(arguments, "experiment", None) or getattr(arguments, "grid", None) or "")
    if file.startswith("./"):  # of the reader's own
        return
    if command in ("train", "features"):
        load(file, scale=arguments.scale, overrides=overrides)
    elif command == "ablate":
        grid = "aggregation_by_init" if "=" in file or not file else file
        assert read_grid(grid, scale=arguments.scale, overrides=tuple(overrides), choose=tuple(arguments.choose)).cells
    elif command == "eval":
        load("clippy_dino_max", scale="cc12m", overrides=["data.root=x", f"benchmark_root={folder}", *overrides])
    elif command == "score":
        words = [f"evaluation.benchmarks=[{arguments.bench}]", f"benchmark_root={folder}", *overrides]
        load(None, scale=None, overrides=["data.source=scenes", *words])
    elif command in ("data", "pretrain"):
        load(None, scale=arguments.scale, overrides=["evaluation.benchmarks=[]", "image.init=random", *overrides])
    for target in [getattr(arguments, name) for name in ("target", "ckpt") if getattr(arguments, name, None)]:
        assert not target.isidentifier() or (EXPERIMENTS / f"{target}.yaml").exists(), target
    for target in [*getattr(arguments, "targets", []), *getattr(arguments, "models", [])]:
        assert not target.isidentifier() or (EXPERIMENTS / f"{target}.yaml").exists(), target


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_what_exists(command, tmp_path):
    words = program_words(command)
    if words is None or words[0].startswith("-"):
        return
    assert words[0] in PROGRAM
    rest = [word for word in shlex.split(command)[2:] if not word.startswith("--")]
    mention = not rest or (words[0] == "data" and len(words) == 2)  # without the arguments that it needs
    if not mention and not PLACEHOLDER.search(re.sub(r"zoo:\S+", "", " ".join(words))):
        check_names(words, folder=tmp_path)


def named_keys(text):
    """Configuration keys in inline code and in words such as ``key=value``."""
    for span in spans(text):
        yield from re.findall(rf"(?<![\w./-])(?:{GROUPS})\.[a-z_]+(?:\.[a-z_]+)*(?![\w(/])", span)


@pytest.mark.parametrize("page", PAGES)
def test_configuration_keys_exist(page):
    for key in named_keys(PAGES[page]):
        node = Experiment
        for part in re.sub(rf"^pretraining\.({'|'.join(MADE_INITS)})", "pretraining", key).split("."):
            if not is_dataclass(node):
                break  # inside a dict such as data.options
            types = {field.name: field.type for field in fields(node)}
            assert part in types or key.endswith(".py"), f"{page}: {key}"
            node = types.get(part)


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_backticks_exist(page):
    for span in spans(PAGES[page]):
        if re.match(r"(src|data_modules|tests|experiments|docs|slurm)/[\w./*-]*$", span) and "NAME" not in span:
            assert list(ROOT.glob(span.rstrip("/"))), f"{page}: {span}"


def anchors(text):
    """The anchors that a forge gives to headings."""
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(file.read_text()), f"{page}: {target}"


def test_the_readme_keeps_its_size():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 150
    assert len(PAGES["README.md"].split()) <= 1000
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("docs/benchmarks.md", tuple(BENCHMARKS)),
        ("docs/evaluation.md", tuple(name for table, rows in vars(protocols).items() if table.endswith("PROTOCOLS") for name in rows)),
        ("docs/data.md", tuple(path.stem for path in (ROOT / "data_modules" / "sources").glob("[!_]*.py"))),
        ("docs/ablations.md", tuple(path.stem for path in (EXPERIMENTS / "ablations").glob("*.yaml"))),
        ("docs/training.md", tuple(path.stem for path in (*EXPERIMENTS.glob("*.yaml"), *(EXPERIMENTS / "scales").glob("*.yaml")))),
        ("README.md", tuple(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))),
    ],
    ids=["benchmarks", "protocols", "sources", "grids", "experiments and scales", "pages"],
)
def test_a_page_names_every_row(page, names):
    missing = [name for name in names if f"`{name}`" not in PAGES[page] and f"({name})" not in PAGES[page]]
    assert not missing


def test_the_tree_names_every_room():
    tree = re.search(r"## The tree\n\n```text\n(.*?)```", PAGES["docs/architecture.md"], flags=re.DOTALL)[1]
    for folder in ("src/gestalt", "data_modules"):
        start = tree.index(f"{folder}/ ")
        section = re.match(r".*\n((?:  .*\n)*)", tree[start:])[1]
        named = set(re.findall(r"^  (\w+)/", section, flags=re.MULTILINE))
        assert named == {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}


def test_the_documented_ladder_of_imports_matches_the_code():
    drawn = re.search(r"## The ladder of imports\n.*?```text\n(.*?)```", PAGES["docs/architecture.md"], flags=re.DOTALL)[1]
    assert [set(rung.split(", ")) for rung in " ".join(drawn.split()).split(" > ")] == list(LADDER)


def test_each_table_of_the_paper_has_its_command():
    section = RESULTS[RESULTS.index("## The paper's tables") :]
    for table in range(1, 11):
        assert re.search(rf"^\| {table} \|.*`make ", section, flags=re.MULTILINE), f"table {table}"


@pytest.mark.parametrize("name", PAPER_GRIDS)
def test_the_paper_numbers_in_the_results_match_the_grid(name):
    paper = yaml.safe_load((EXPERIMENTS / "ablations" / f"{name}.yaml").read_text())["paper"]
    start = RESULTS.index(f"`make ablate GRID={name}` |")
    rows = RESULTS[start:].split("\n")[: len(paper["cells"])]
    expected = [list(cell.values()) for cell in paper["cells"].values()]
    assert [[float(number) for number in re.findall(r"\d+\.\d", row.split("|")[-4])] for row in rows] == expected


def test_the_headline_table_matches_the_results_page():
    paper = yaml.safe_load((EXPERIMENTS / "ablations" / "aggregation.yaml").read_text())["paper"]["cells"]
    for name, cell in {"maximum": "max", "average": "avg", "class token": "cls"}.items():
        row = re.search(rf"^\| {name} \|(.*)\|$", PAGES["README.md"], flags=re.MULTILINE)[1]
        miou, deviation, recall, paper_miou, paper_accuracy = map(float, re.findall(r"\d+\.\d", row))
        assert (paper_miou, paper_accuracy) == (paper[cell]["miou"], paper[cell]["accuracy"])
        ours = re.search(rf"^\| {'max' if cell == 'max' else name} \|(.*)\|$", RESULTS, flags=re.MULTILINE)[1].split("|")
        assert [miou, deviation] == [round(float(number) * 100, 1) for number in re.findall(r"\d\.\d+", ours[0])[:2]]
        assert recall == round(float(re.findall(r"\d\.\d+", ours[2])[0]) * 100, 1)


def test_each_line_of_the_security_page_names_a_test_that_exists():
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    rows = [
        row
        for row in PAGES["docs/security.md"].splitlines()
        if row.startswith("|") and not re.match(r"\|(-| a )[^|]*\|( may | ends |-)", row)
    ]
    assert rows
    for row in rows:
        (name,) = re.findall(r"`(test_\w+)`", row)
        assert f"def {name}(" in sources, name


def test_pre_commit_calls_the_ruff_of_the_environment():
    hooks = [hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for hook in repo["hooks"]]
    assert [hook["entry"].split()[:2] for hook in hooks] == [[".venv/bin/ruff", "check"], [".venv/bin/ruff", "format"]]
    assert all(hook["language"] == "system" for hook in hooks)


def test_the_workflow_calls_what_a_pull_request_must_pass():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.13"]
    assert [step["run"] for step in job["steps"] if "run" in step][-1] == ".ci/run"


def test_the_citation_has_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = re.search(r"^version = (.+)$", (ROOT / "setup.cfg").read_text(), flags=re.MULTILINE)[1]
    assert (citation["version"], citation["license"]) == (version, "Apache-2.0")
    assert "arXiv:2210.09996" in str(citation["references"])
