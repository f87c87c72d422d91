"""Old names of modules, and of names in modules."""

import sys
from importlib import import_module
from pkgutil import resolve_name

import pytest

from gestalt.support.moved import MOVED_NAMES, Forward


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("gestalt.data_modules.corpora.bad_samples", "gestalt.data_modules.pixels.bad_samples"),
        ("gestalt.evaluation.prompts", "gestalt.measures.evaluation.prompts"),
        ("gestalt.losses.gather", "gestalt.support.ranks"),
        ("gestalt.losses.words", "gestalt.losses.noun_list"),
        ("gestalt.measures.segmentation.protocol", "gestalt.measures.dense.protocol"),
        ("gestalt.publishing.hub", "gestalt.models.folder"),
    ],
)
def test_a_module_that_moved_imports_under_its_old_name(old, new, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match="is deprecated; import ") as seen:
        assert import_module(old) is import_module(new)
    assert str(seen[-1].message) == f"{old} is deprecated; import {new} instead"
    assert Forward().find_spec("gestalt.losses.gatherer") is None


@pytest.mark.parametrize(
    ("old", "name", "now"),
    [(old, name, now) for old, names in MOVED_NAMES.items() for name, now in names.items()],
)
def test_a_name_that_moved_imports_from_its_old_module(old, name, now):
    with pytest.warns(
        DeprecationWarning, match=rf"^{old}\.{name} is deprecated; import it from {now}"
    ):
        assert resolve_name(f"{old}:{name}") is resolve_name(f"{now}:{name}")
    with pytest.raises(AttributeError, match=f"'{old}' has no attribute 'nothing'"):
        resolve_name(f"{old}:nothing")
