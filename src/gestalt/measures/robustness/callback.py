"""Robustness: how far backgrounds mislead, on images of one set, at each evaluation.  N images, C classes, h w patch grid."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from torch import Tensor

from gestalt.callbacks.pictures import write_picture
from gestalt.evaluation.pictures import map_picture
from gestalt.evaluation.prompts import ClassEmbeddings, Labels, class_embeddings, templates_digest, used_prompts
from gestalt.evaluation.protocols import RobustnessProtocol
from gestalt.measures.callback import Scorer, Shown, spread, without_nan
from gestalt.measures.classification.engine import Reduced, WithThird, reduced_labels
from gestalt.measures.classification.metric import AccuracyScore, GroupAccuracy, adjusted_accuracy, drops, mean_group, worst_group


class Robustness(Scorer[AccuracyScore]):
    """Names images whose background misleads, by a dense map and a rule, and says by how much they mislead.

    Each class has a place that goes with it by habit.  The table has the accuracy of each class at each place; a class's *delta* is how
    much it loses off its usual place.

    Args:
        name: of the benchmark.
        labels: C classes and their prompts; the protocol's third class comes beside them.
        protocol: how images are resized, prompts made and maps reduced to labels.
        length: how many images the whole set has; the handful is spread over it.
        pictures: how many images are shown.
        image_set: as ``Scorer``.
        train_groups: C x C, how many training images each class has at each place, which weight the adjusted accuracy; None without.

    Raises:
        ValueError: as ``Classification``.
    """

    measure, needs = "robustness", "class_label"

    def __init__(
        self,
        name: str,
        *,
        labels: Labels,
        protocol: RobustnessProtocol,
        length: int,
        pictures: int = 6,
        image_set: str | None = None,
        train_groups: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.classes = WithThird(labels, protocol.third_class)
        used_prompts(self.classes, protocol=protocol.prompting())
        count = len(labels.names)
        super().__init__(
            name, metrics={"model": GroupAccuracy(count, places=count)}, image_set=image_set, shown_ids=spread(length, count=pictures)
        )
        self.labels = labels
        self.protocol = protocol
        self.length = length
        self.train_groups = train_groups
        self._prompts: ClassEmbeddings | None = None

    def truth(self, batch: Mapping[str, Any]) -> Any:
        """The true classes; the places must be there too."""
        if "place" not in batch:
            raise ValueError(f"image set {self.image_set}: its batches have no 'place', {self.measure} cannot be scored")
        return super().truth(batch)

    def begin(self, model: Any) -> None:
        """Embed the classes anew, since the text tower trains."""
        self._prompts = class_embeddings(model, self.classes, protocol=self.protocol.prompting())

    def score(self, model: Any, batch: Mapping[str, Any]) -> list[Tensor]:
        """Name a batch and count.  Returns the nearest class of each patch."""
        assert self._prompts is not None
        found: Reduced = reduced_labels(model, batch["image"], prompts=self._prompts, protocol=self.protocol)
        truth, place = (batch[key].to(found.label.device) for key in (self.needs, "place"))
        wrong = (found.label != truth).long()
        self.metrics["model"].update(truth, prediction=found.label, rank=wrong, sample_id=batch["sample_id"], place=place)
        return found.maps

    def logged(self) -> dict[str, float]:
        """Accuracy over images, over groups by their shares of training or equally, of the worst; cells; deltas; the third class."""
        score, names = self.scores["model"], self.labels.names
        cells = score.cells
        values = {"accuracy": score.top(1), "accuracy_chance": 1 / len(self.classes.names), "accuracy_majority": score.majority}
        if self.train_groups is not None:
            values["adjusted_accuracy"] = float(adjusted_accuracy(cells, train_groups=self.train_groups))
        values |= {"worst_group": float(worst_group(cells)), "mean_group": float(mean_group(cells))}
        values["third_class"] = float(self._third().mean()) if score.images else float("nan")
        for index, (name, delta) in enumerate(zip(names, drops(cells, usual=range(len(names))).tolist(), strict=True)):
            values |= {f"accuracy/{name}_usual_place": float(cells[index, index]), f"delta/{name}": delta}
            values[f"accuracy/{name}_other_place"] = float(cells[index, index] - delta)
        return without_nan(self.name, values)

    def result(self) -> dict[str, Any]:
        """The last evaluation for a JSON record: metrics, the table as integers, provenance.  Empty before the first."""
        if not self.scores:
            return {}
        score = self.scores["model"]
        return {
            **self.heading(self.protocol),
            "images": score.images,
            "images_in_set": self.length,
            "names": list(self.labels.names),
            "names_of_map": list(self.classes.names),
            "right": score.right.tolist(),
            "total": score.total.tolist(),
            "table_rows": "true class; a column a place, in the order of the classes that it goes with by habit",
            "counts": {"model": [score.right.reshape(-1).tolist(), score.total.reshape(-1).tolist()]},
            "counts_rows": ["right", "truth"],
            "label_set": self.labels.digest(),
            "templates": templates_digest(self.protocol.prompting()),
            **({} if self.train_groups is None else {"train_groups": [list(row) for row in self.train_groups]}),
        }

    def per_image(self) -> dict[str, NDArray[np.float64]]:
        """``<set>/accuracy`` and ``<set>/third_class``: 1 or 0 of each image, and ``<set>/group``: classes x class + place.

        All (N,) in order of image id; empty before the first score.
        """
        if not self.scores:
            return {}
        score = self.scores["model"]
        group = (score.truth * len(self.labels.names) + score.place).astype(np.float64)
        arrays = {"accuracy": (score.rank == 0).astype(np.float64), "third_class": self._third(), "group": group}
        return {f"{self.name}/{what}": array for what, array in arrays.items()}

    def _third(self) -> NDArray[np.float64]:
        """Of each image, whether the third class was said."""
        return (self.scores["model"].prediction >= len(self.labels.names)).astype(np.float64)

    def draw(self, trainer: Trainer, *, shown: Sequence[Shown]) -> None:
        """Each location in the colour of its class, to every TensorBoard logger, and as PNG beside the first log."""
        score = self.scores["model"]
        for position, one in enumerate(shown):
            row = int(np.searchsorted(score.sample_id, one.sample_id))
            said, true = (self.classes.names[int(values[row])] for values in (score.prediction, score.truth))
            usual = "usual" if score.truth[row] == score.place[row] else "other"
            third = len(self.labels.names) if self.protocol.third_class else None
            title = f"{one.name}: a {true} at its {usual} place, named {said}"
            picture = map_picture(
                one.image, one.prediction, names=self.classes.names, background=third, protocol=self.protocol, title=title
            )
            stem = f"epoch_{trainer.current_epoch:03d}_{one.name}_map"
            write_picture(trainer, picture=picture, tag=f"{self.name}/maps/{position}", stem=stem)
