"""requirements.lock: every package by version and hash, in agreement with setup.cfg."""

import configparser
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
# a package may have other versions on other Pythons
LOCKED = [
    (canonicalize_name(name), version)
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", LOCK, flags=re.MULTILINE)
]
# torch and torchvision: so that builds for CPUs fit; the others are of extras that are not in it
APART = {"torch", "torchvision", "pydensecrf2", "gradio"}


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


def direct() -> list[Requirement]:
    extras = setup()["options.extras_require"].values()
    texts = (setup()["options"]["install_requires"], *extras)
    return [requirement for text in texts for requirement in requirements(text)]


def test_direct_dependencies_are_locked_within_their_ranges():
    for requirement in direct():
        name = canonicalize_name(requirement.name)
        versions = [version for locked, version in LOCKED if locked == name]
        assert bool(versions) == (name not in APART), requirement
        assert all(version in requirement.specifier for version in versions), requirement


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
