"""eval: score a checkpoint, at several sizes or under several protocols, or calibrate a background
threshold for it.
"""

from argparse import Namespace
from pathlib import Path

from gestalt.commands.calibrate import calibrate
from gestalt.commands.process import quiet
from gestalt.commands.scoring import open_target, score
from gestalt.commands.sweep import sweep_protocols, sweep_sizes


def run(arguments: Namespace) -> int:
    """Score, sweep sizes or protocols, or calibrate; print the path of the record of a sweep or a
    calibration.
    """
    quiet()
    words = arguments.overrides
    target = open_target(arguments.target, overrides=words, output=arguments.output)
    if arguments.calibrate is not None:
        path = calibrate(target, benchmark=arguments.calibrate, split=arguments.split)
        print(f"record: {path}")
    elif arguments.sizes is not None:
        record = sweep_sizes(target, sizes=arguments.sizes, overrides=words)
        if record is not None:
            print(f"sweep: {record} and {record.with_suffix('.png').name}")
    elif arguments.protocols is not None:
        record = sweep_protocols(target, protocols=arguments.protocols, overrides=words)
        if record is not None:
            print(f"protocols: {record} and {record.with_suffix('.png').name}")
    else:
        folder = None if arguments.predictions is None else Path(arguments.predictions)
        score(target, overrides=words, predictions=folder)
    return 0
