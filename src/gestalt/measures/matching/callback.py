"""Matching: clusters of one whole image set against its classes, at each evaluation.  N images, K clusters, C classes, H W pixels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from gestalt.callbacks.pictures import write_picture
from gestalt.evaluation.pictures import segmentation_panels
from gestalt.evaluation.prompts import Labels
from gestalt.evaluation.protocols import MatchingProtocol
from gestalt.measures.callback import Scorer, Shown, spread, without_nan
from gestalt.measures.matching.engine import Images, clustered, fitted_centres
from gestalt.measures.matching.metric import NO_CLASS, MatchedIoU, MatchedScore
from gestalt.measures.segmentation.baselines import constant, patch_oracle
from gestalt.measures.segmentation.callback import class_keys, label_maps

BASELINES = ("one_cluster", "patch_oracle")
"""What each matched mIoU stands beside, as ``<set>/matched_miou_<baseline>``."""


class Matching(Scorer[MatchedScore]):
    """Clusters the patches of one set, matches clusters to classes once, and logs numbers and pictures, whatever the number of ranks.

    Args:
        name: of the benchmark.
        labels: the classes; their prompts have no say.
        protocol: how images are resized, centres fitted and pixels decided.
        images: the set itself, which centres are fitted to before the first batch; the handful is spread over it.
        pictures: how many images are shown.
        image_set: as ``Scorer``.
        label_set: the name of ``labels`` in batches; None where it has the benchmark's name.

    Raises:
        ValueError: as ``Scorer``.
    """

    measure, needs = "matching", "labels"

    def __init__(
        self,
        name: str,
        *,
        labels: Labels,
        protocol: MatchingProtocol,
        images: Images,
        pictures: int = 6,
        image_set: str | None = None,
        label_set: str | None = None,
    ) -> None:
        classes = len(labels.names)
        self.clusters = protocol.clusters or classes
        metrics = {
            "model": MatchedIoU(self.clusters, classes),
            "one_cluster": MatchedIoU(1, classes),
            "patch_oracle": MatchedIoU(classes, classes),
        }
        super().__init__(name, metrics=metrics, image_set=image_set, shown_ids=spread(len(images), count=pictures))
        self.label_set = label_set or name
        self.labels = labels
        self.protocol = protocol
        self.images = images
        self._centres: NDArray[np.float64] | None = None

    def truth(self, batch: Mapping[str, Any]) -> list[Tensor]:
        """The (H, W) label maps of the label set."""
        return label_maps(super().truth(batch), label_set=self.label_set, image_set=self.image_set)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As ``Scorer``, and fit the centres anew, since the tower trains; all ranks share the work."""
        super().on_validation_epoch_start(trainer, pl_module)
        model: Any = pl_module.model
        self._centres = fitted_centres(
            model,
            self.images,
            chosen=spread(len(self.images), count=self.protocol.fit_images),
            clusters=self.clusters,
            protocol=self.protocol,
            device=pl_module.device,
            rank=trainer.global_rank,
            ranks=trainer.world_size,
        )

    def score(self, model: Any, batch: Mapping[str, Any]) -> list[Tensor]:
        """Give every pixel its cluster, and count."""
        assert self._centres is not None
        labels = self.truth(batch)
        sizes = [(label.shape[0], label.shape[1]) for label in labels]
        found = clustered(model, batch["image"], centres=self._centres, protocol=self.protocol, sizes=sizes)
        clusters = {
            "model": [one.groups for one in found],
            "one_cluster": [constant(label, index=0) for label in labels],
            "patch_oracle": [patch_oracle(label, grid=one.grid) for one, label in zip(found, labels, strict=True)],
        }
        for key, each in clusters.items():
            self.metrics[key].update(each, labels, batch["sample_id"])
        return clusters["model"]

    def logged(self) -> dict[str, float]:
        """Of the model and the baselines, and each class."""
        score = self.scores["model"]
        values = {"matched_miou": score.miou, "matched_pixel_accuracy": score.pixel_accuracy}
        values |= {f"matched_miou_{key}": self.scores[key].miou for key in BASELINES}
        values |= {f"matched/iou/{key}": float(iou) for key, iou in zip(class_keys(self.labels.names), score.iou, strict=True)}
        return without_nan(self.name, values)

    def result(self) -> dict[str, Any]:
        """The last evaluation for a JSON record, empty before the first: metrics, the match, counts, provenance."""
        if not self.scores:
            return {}
        score = self.scores["model"]
        return {
            **self.heading(self.protocol),
            "images": score.images,
            "images_in_set": len(self.images),
            "names": list(self.labels.names),
            "clusters": self.clusters,
            "match": [None if one == NO_CLASS else one for one in score.match.tolist()],
            "iou": [None if np.isnan(value) else value for value in score.iou.tolist()],
            "counts": {key: one.counts.tolist() for key, one in self.scores.items()},
            "counts_rows": ["intersection", "prediction", "truth"],
            "label_set": self.labels.digest(),
        }

    def per_image(self) -> dict[str, NDArray[np.int64]]:
        """Empty before the first score.

        ``<set>/matched_miou``: (N, 3, C) pixels of intersection, prediction and truth under the one match, in order of image id.
        ``<set>/matched_confusion``: (K, C) labelled pixels of the whole set, a row a cluster, a column a class.
        """
        if not self.scores:
            return {}
        score = self.scores["model"]
        return {f"{self.name}/matched_miou": score.image_counts, f"{self.name}/matched_confusion": score.confusion}

    def draw(self, trainer: Trainer, *, shown: Sequence[Shown]) -> None:
        """Pictures to every TensorBoard logger, and as PNG beside the first log; clusters have the colours of their classes."""
        match = self.scores["model"].match
        left_over = len(self.labels.names)
        table = np.where(match == NO_CLASS, left_over, match)
        for position, one in enumerate(shown):
            prediction = one.label.new_tensor(table[one.prediction.numpy()])
            names = (*self.labels.names, "no class")
            picture = segmentation_panels(
                one.image, prediction=prediction, truth=one.label, names=names, background=self.labels.background, title=one.name
            )
            stem = f"epoch_{trainer.current_epoch:03d}_{one.name}_clusters"
            write_picture(trainer, picture=picture, tag=f"{self.name}/clusters/{position}", stem=stem)
