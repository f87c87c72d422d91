"""segment: colour one picture by the labels that its locations resemble most."""

from argparse import Namespace
from pathlib import Path

from gestalt.api import load
from gestalt.commands.process import quiet


def run(arguments: Namespace) -> int:
    """Write the coloured picture and print its path.

    Raises:
        ValueError: the output exists and was not named, its folder is missing, or the model or the picture cannot be read.
    """
    quiet()
    picture, output = Path(arguments.image), arguments.output
    path = Path(output) if output else picture.with_name(picture.stem + "_segmented.png")
    if path.exists() and output is None:
        raise ValueError(f"{path}: exists already; name another file with --output, or this one to overwrite it")
    if not path.parent.is_dir():
        raise ValueError(f"--output {output}: folder {path.parent} not found")
    print(load(arguments.ckpt).segment(picture, arguments.labels).save(path))
    return 0
