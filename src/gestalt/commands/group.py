"""group: divide pictures into groups of locations with similar features, without names."""

from argparse import Namespace

import torch
from torch import Tensor

from gestalt.api import Model, load
from gestalt.commands.picture_run import Mapped, Mapper, map_pictures
from gestalt.commands.process import quiet
from gestalt.measures.grouping.protocol import grouping_protocol
from gestalt.measures.segmentation.segmented import SegmentedImage


def run(arguments: Namespace) -> int:
    """Write the maps and print where they are.

    Raises:
        ValueError: a model that cannot be opened, or a protocol or a number of groups that does not
            fit it.
    """
    quiet()
    groups, name = arguments.groups, arguments.protocol
    mappers = []
    for model in [load(target) for target in arguments.models]:
        chosen = grouping_protocol(model.config, groups=groups, name=name)
        maps = {"groups": grouped(model, groups=groups, protocol=name)}
        mappers.append(Mapper(model, {"groups": groups, "protocol": name}, maps, [chosen]))
    return map_pictures(arguments, mappers, kind="groups")


def grouped(model: Model, *, groups: int, protocol: str | None = None) -> Mapped:
    """Return the function from pictures to their groups, named by number, largest first."""

    def result(picture: Tensor, values: Tensor) -> SegmentedImage:
        shares = torch.bincount(values.flatten(), minlength=groups) / values.numel()
        order = shares.argsort(descending=True, stable=True)
        names = tuple(f"group {number}" for number in range(1, len(shares) + 1))
        areas = dict(zip(names, shares[order].tolist(), strict=True))
        return SegmentedImage(
            names,
            order.argsort()[values.long()].to(torch.uint8),
            {},
            areas,
            picture,
            torch.empty(0, 1, 1),
        )

    def mapped(pictures: list[Tensor]) -> list[SegmentedImage]:
        maps = model.group(pictures, groups, protocol=protocol)
        return [result(picture, values) for picture, values in zip(pictures, maps, strict=True)]

    return mapped
