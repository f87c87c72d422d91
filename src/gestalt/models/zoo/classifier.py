"""A classifier of timm beside a sentence tower, read by its class names: what needs no training at
all.  Its words come from ImageNet's labels, not from captions.
"""

from gestalt.config.schema import Experiment
from gestalt.models.building import build_towers
from gestalt.models.classifier import PROMPTS, class_names
from gestalt.models.zoo.adapter import describe_library
from gestalt.models.zoo.kinds import Opened
from gestalt.projection import LIKELIEST, TEMPERATURE
from gestalt.support.files import short_digest


def build(name: str, config: Experiment) -> Opened:
    """Build the model of a configuration that starts from the classifier; for the record, describe
    what is averaged.
    """
    description = {
        **describe_library("timm", name),
        "reading": "ConSE",
        "labels": "ImageNet-1k",
        "names": short_digest("\n".join(class_names())),
        "templates": PROMPTS.templates,
        "temperature": TEMPERATURE,
        "likeliest": LIKELIEST,
    }
    return Opened(build_towers(config), description)
