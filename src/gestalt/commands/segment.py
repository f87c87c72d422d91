"""segment: give every pixel of pictures the label that its location resembles most."""

from argparse import Namespace

from torch import Tensor

from gestalt.api import Model, load
from gestalt.commands.group import grouped
from gestalt.commands.picture_run import Mapped, Mapper, map_pictures
from gestalt.commands.process import quiet
from gestalt.evaluation.protocols import ImageProtocol
from gestalt.measures.grouping.protocol import grouping_protocol
from gestalt.measures.segmentation.fitting import picture_protocol
from gestalt.measures.segmentation.segmented import SegmentedImage


def run(arguments: Namespace) -> int:
    """Write the maps and print where they are.

    Raises:
        ValueError: a model that cannot be opened, or a protocol, a reading or a threshold that does
            not fit it.
    """
    quiet()
    return map_pictures(
        arguments, [_mapper(load(target), arguments) for target in arguments.models], kind="labels"
    )


def _mapper(model: Model, arguments: Namespace) -> Mapper:
    """Return the functions that segment with a model and, if asked for, group."""
    chosen = picture_protocol(
        model.config,
        model.encoder,
        protocol=arguments.protocol,
        reading=arguments.reading,
        threshold=arguments.threshold,
    )

    def segmented(pictures: list[Tensor]) -> list[SegmentedImage]:
        return model.segment(pictures, arguments.labels, protocol=chosen)

    maps: dict[str, Mapped] = {"labels": segmented}
    protocols: list[ImageProtocol] = [chosen]
    if arguments.groups is not None:
        maps["groups"] = grouped(model, groups=arguments.groups)
        protocols.append(grouping_protocol(model.config, groups=arguments.groups))
    protocol = {
        "name": chosen.name,
        "reading": chosen.reading,
        "threshold": chosen.threshold,
        "digest": chosen.digest(),
    }
    return Mapper(model, {"protocol": protocol}, maps, protocols)
