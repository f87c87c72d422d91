"""The protocol by which pictures without labels are grouped."""

from gestalt.config.schema import Experiment
from gestalt.evaluation.measures import MEASURES
from gestalt.evaluation.protocols import GROUPING_PROTOCOLS, PARTITIONS, BottomUpProtocol, build_protocol
from gestalt.support.names import nearest


def grouping_protocol(config: Experiment, *, groups: int, name: str | None = None) -> BottomUpProtocol:
    """Return the protocol for grouping pictures, at the model's image size.

    Args:
        config: configuration of the model.
        groups: the largest number of groups.
        name: a protocol; by default the configuration's.

    Raises:
        ValueError: an unknown protocol, one whose masks overlap, or an impossible number of groups.
    """
    name = name or config.evaluation.grouping_protocol or MEASURES["grouping"].default
    if name in GROUPING_PROTOCOLS and name not in PARTITIONS:
        raise ValueError(f"protocol {name}: its masks overlap, so they are no groups of a picture; {nearest(name, PARTITIONS)}")
    return build_protocol(name, GROUPING_PROTOCOLS, input_size=config.image.eval_size, groups=groups)
