"""The worked example of a package that adds a term: its entry point.

The laws of its term are in ``test_terms.py``.
"""

import pytest

from gestalt.config.schema import config_hash
from gestalt.losses.noun_list import NounList
from gestalt.models.start import build_model
from gestalt.support.plugins import added_to
from gestalt.tables import TERMS
from tests.gestalt.at_step import build_module
from tests.gestalt.losses.toy import EXAMPLE, POINTS
from tests.gestalt.tiny_config import tiny_config


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The example as pip installs it: its entry points on the path."""
    record = tmp_path / "more_terms-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: more-terms\nVersion: 1.0\nSummary: Two more terms\n"
    )
    (record / "entry_points.txt").write_text(
        "[gestalt.terms]\n" + "".join(f"{name} = {value}\n" for name, value in POINTS.items())
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    added_to.cache_clear()
    yield
    added_to.cache_clear()


@pytest.mark.usefixtures("installed")
def test_an_installed_package_adds_its_terms_to_a_run():
    assert {row.name for row in TERMS.rows() if row.package == "more-terms 1.0"} == set(POINTS)
    config = tiny_config(name=str(EXAMPLE / "best_patch.yaml"))
    assert config_hash(config) != config_hash(tiny_config())
    model = build_model(config)
    terms = build_module(
        config, model, total_steps=10, nouns=NounList(["cat", "dog", "house"])
    ).terms
    assert {name: type(term).__name__ for name, term in terms.items()} == {
        "best_patch": "BestPatch"
    }
