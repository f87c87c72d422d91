"""What is refused of a run that is about to start, and not of one that is saved: it may be scored where its data no longer lie."""

from collections.abc import Mapping
from pathlib import Path

from gestalt.config.check_data import check_options
from gestalt.config.schema import ConfigError, Experiment

LAUNCHERS = ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "NODE_RANK", "GROUP_RANK")
"""Variables by which Lightning knows its node."""

ELSEWHERE = ("://", "{", "*", "?", "[")
"""In a place that is no path: an URL, or a pattern."""


def check_nodes(config: Experiment, environment: Mapping[str, str]) -> None:
    """Refuse to wait for the processes of other nodes where nothing says that any were started.

    Raises:
        ConfigError: says what starts them.
    """
    nodes = config.trainer.num_nodes
    if nodes > 1 and not any(name in environment for name in LAUNCHERS):
        why = f"nothing started the others; call it under torchrun --nnodes {nodes} or SLURM, or choose 1"
        raise ConfigError(f"trainer.num_nodes={nodes}: {why}")


def check_training(config: Experiment) -> None:
    """Refuse what would teach nothing, or would be ignored.

    Raises:
        ConfigError: names the key and what would be right.
    """
    if config.data.batch_size == 1:
        raise ConfigError(
            "data.batch_size=1: a pair is told from the others of its batch, so that alone it teaches nothing; choose 2 or more"
        )
    check_options(config)
    devices = str(config.trainer.devices)
    count = len(devices.split(",")) if "," in devices else int(devices) if devices.isdecimal() else 1
    ranks = count * config.trainer.num_nodes
    if config.data.batch_size % ranks:
        near = config.data.batch_size // ranks * ranks or ranks
        raise ConfigError(
            f"data.batch_size={config.data.batch_size}: cannot be shared by {ranks} ranks "
            f"(trainer.devices={devices}, trainer.num_nodes={config.trainer.num_nodes}); choose a multiple, such as {near}"
        )
    steps, warmup = config.trainer.max_steps, config.optimizer.warmup_steps
    if 0 < steps < warmup:
        raise ConfigError(f"optimizer.warmup_steps={warmup}: the run ends after trainer.max_steps={steps}; choose no more")
    file = config.evaluation.calibration
    if file is not None:
        why = "a threshold is calibrated for weights that are trained; leave it out, and give it to `gestalt eval`"
        raise ConfigError(f"evaluation.calibration={file}: {why}")


def check_places(config: Experiment) -> None:
    """Refuse a folder or a file that is not there, before anything heavy is imported to look into it.

    Raises:
        ConfigError: names the key and the place.
    """
    places = {"data.manifest": config.data.manifest, "image.weights": config.image.weights, "benchmark_root": config.benchmark_root}
    if config.data.source != "hub":
        places["data.root"] = config.data.root
    if config.resume is not None and "/" in config.resume:  # else it is last, or an experiment's name
        places["resume"] = config.resume
    for key, place in places.items():
        if place is not None and not any(sign in place for sign in ELSEWHERE) and not Path(place).expanduser().exists():
            raise ConfigError(f"{key}={place}: there is nothing; {Path(place).expanduser().absolute()} was looked for")
