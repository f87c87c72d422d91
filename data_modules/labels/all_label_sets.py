"""Label sets of all image sets, available without their data, for example to a linter."""

import pkgutil
from importlib import import_module
from importlib.resources import files

from data_modules import image_sets
from data_modules.image_sets import LabelSet
from data_modules.labels.label_tables import read_tables


def all_label_sets() -> dict[str, LabelSet]:
    """Return all label sets by name: those in ``image_sets/tables`` and the ``LABELS`` of image set files."""
    tables = sorted(
        path.name.removesuffix(".json") for path in files(image_sets).joinpath("tables").iterdir() if path.name.endswith(".json")
    )
    label_sets = {key: table.labels for name in tables for key, table in read_tables(name).items()}
    for name in sorted(module.name for module in pkgutil.iter_modules(image_sets.__path__)):
        label_sets |= getattr(import_module(f"{image_sets.__name__}.{name}"), "LABELS", {})
    return label_sets
