"""eval: score a checkpoint, at several sizes or under several protocols, or calibrate a background
threshold for it.
"""

from argparse import Namespace

from gestalt.commands.calibrate import calibrate
from gestalt.commands.process import quiet
from gestalt.commands.scoring import open_target, score
from gestalt.commands.sweep import sweep_protocols, sweep_sizes


def run(arguments: Namespace) -> int:
    """Score, sweep sizes or protocols, or calibrate; print the metrics, and the record."""
    quiet()
    words = arguments.overrides
    target = open_target(arguments.target, overrides=words, output=arguments.output)
    if arguments.calibrate is not None:
        print("record:", calibrate(target, arguments.calibrate, arguments.split))
    elif arguments.sizes is not None:
        sweep_sizes(target, arguments.sizes, words)
    elif arguments.protocols is not None:
        sweep_protocols(target, arguments.protocols, words)
    else:
        score(target, overrides=words, predictions=arguments.predictions)
    return 0
