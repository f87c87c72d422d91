"""segment: colour one image by the labels that its locations resemble most."""

from argparse import Namespace
from pathlib import Path

from gestalt.building.checkpoint import load_model
from gestalt.commands.process import quiet
from gestalt.config.loading import load_saved
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.evaluation.pictures import read_image, render_segmentation
from gestalt.measures.segmentation.engine import segment_image
from gestalt.measures.segmentation.protocol import fitted, segmentation_protocol
from gestalt.runs.names import resolve_checkpoint, run_folder
from gestalt.support.files import replacing


def run(arguments: Namespace) -> int:
    """Write the coloured picture and print its path."""
    print(segment(arguments.image, labels=arguments.labels, target=arguments.ckpt, output=arguments.output))
    return 0


def segment(image_path: str, *, labels: list[str], target: str, output: str | None) -> Path:
    """Colour an image by the labels that its locations resemble most, and write it as a PNG.

    Args:
        image_path: a picture.
        labels: phrases, two or more.
        target: a checkpoint, a run's folder, or an experiment's name for its newest run.
        output: PNG to write; None for ``<picture>_segmented.png`` beside it.

    Raises:
        ValueError: the output exists and was not named, its folder is missing, or the target cannot be loaded.
    """
    quiet()
    image = read_image(Path(image_path))
    path = Path(output) if output else Path(image_path).with_name(Path(image_path).stem + "_segmented.png")
    if path.exists() and output is None:
        raise ValueError(f"{path}: exists already; name another file with --output, or this one to overwrite it")
    if not path.parent.is_dir():
        raise ValueError(f"--output {output}: folder {path.parent} not found")
    checkpoint = resolve_checkpoint(target)
    config = load_saved(run_folder(checkpoint) / "config.yaml")
    model = load_model(checkpoint, config).eval()
    benchmark = BENCHMARKS[next(iter(config.evaluation.benchmarks), "scenes")]
    asked = config.evaluation.reading is not None or config.evaluation.positions is not None
    protocol = fitted(segmentation_protocol(config, benchmark, has_background=False), model, asked=asked)
    mask = segment_image(model, image, labels=labels, protocol=protocol)
    with replacing(path) as partial:
        render_segmentation(image, mask, labels).save(partial, "PNG")
    return path
