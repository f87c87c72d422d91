"""Forward modules and names that have moved since earlier versions.  Importing the old name imports
the new one, with a DeprecationWarning.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "gestalt.data_modules.corpora.bad_samples": "gestalt.data_modules.pixels.bad_samples",
    "gestalt.evaluation": "gestalt.measures.evaluation",
    "gestalt.losses.gather": "gestalt.support.ranks",
    "gestalt.losses.words": "gestalt.losses.noun_list",
    "gestalt.measures.segmentation.protocol": "gestalt.measures.dense.protocol",
    "gestalt.publishing.hub": "gestalt.models.folder",
}
"""Old name of a module, or of a package with everything in it -> new name."""

MOVED_NAMES = {
    "gestalt.encoders.readings": dict.fromkeys(
        ("open_clip_block", "split", "timm_block", "transformers_block"),
        "gestalt.encoders.last_block",
    ),
    "gestalt.losses.contrastive": {
        "sigmoid_loss": "gestalt.losses.sigmoid",
        "text_ids": "gestalt.losses.captions",
    },
}
"""Module -> name that has left it -> module that now contains it."""


def forward_names(module: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module of :data:`MOVED_NAMES`."""

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in MOVED_NAMES[module]:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        now = MOVED_NAMES[module][name]
        warnings.warn(
            f"{module}.{name} is deprecated; import it from {now} instead",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(now), name)

    return __getattr__


class Forward(Loader):
    """Find and load the modules of :data:`MOVED`.

    This is the first entry of ``sys.meta_path``, because Python would find the files of a moved
    package again under the old name.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of a module that has moved; None for any other."""
        for old, new in MOVED.items():
            if f"{name}.".startswith(f"{old}."):
                return ModuleSpec(name, self, origin=new + name.removeprefix(old))
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Replace the empty module that Python created under the old name with the module of the
        new name.
        """
        assert module.__spec__ is not None
        now = str(module.__spec__.origin)
        warnings.warn(
            f"{module.__name__} is deprecated; import {now} instead",
            DeprecationWarning,
            stacklevel=2,
        )
        sys.modules[module.__name__] = import_module(now)
