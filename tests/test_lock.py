"""requirements.lock: every package by version and hash, in agreement with setup.cfg and
constraints.txt.
"""

import configparser
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", LOCK, flags=re.MULTILINE)
}
BUILT_FROM_SOURCE = {"pydensecrf2"}  # of the extra crf: building it runs code that no hash covers

# of the extra app, for an environment of its own: it needs older versions than the lock has
APART = {"gradio"}


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


def test_direct_dependencies_are_locked_within_their_ranges():
    for text in (
        setup()["options"]["install_requires"],
        *setup()["options.extras_require"].values(),
    ):
        for requirement in requirements(text):
            name = canonicalize_name(requirement.name)
            assert (name in LOCKED) == (name not in BUILT_FROM_SOURCE | APART), requirement
            assert name not in LOCKED or LOCKED[name] in requirement.specifier, requirement


def test_the_lock_has_the_versions_of_the_published_numbers():
    for requirement in requirements((ROOT / "constraints.txt").read_text()):
        name = canonicalize_name(requirement.name)
        assert name in BUILT_FROM_SOURCE or LOCKED[name] in requirement.specifier, requirement


def test_every_package_has_a_hash_and_none_an_address():
    entries = re.split(r"^(?=\S)", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) == len(LOCKED)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert "://" not in LOCK
    assert "--index" not in LOCK
