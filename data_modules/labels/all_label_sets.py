"""The label sets of all image sets, without their data: what a linter reads."""

import pkgutil
from importlib import import_module
from importlib.resources import files

from data_modules import image_sets
from data_modules.image_sets import LabelSet
from data_modules.labels.label_tables import read_tables


def all_label_sets() -> dict[str, LabelSet]:
    """By name: those of ``image_sets/tables``, and those that the file of an image set has as ``LABELS``."""
    tables = sorted(
        path.name.removesuffix(".json") for path in files(image_sets).joinpath("tables").iterdir() if path.name.endswith(".json")
    )
    found = {key: table.labels for name in tables for key, table in read_tables(name).items()}
    for module in sorted(one.name for one in pkgutil.iter_modules(image_sets.__path__)):
        found |= getattr(import_module(f"{image_sets.__name__}.{module}"), "LABELS", {})
    return found
