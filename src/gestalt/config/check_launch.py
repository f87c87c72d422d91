"""Checks before a run starts.  Saved runs skip them, because their data may be gone."""

from collections.abc import Mapping
from pathlib import Path

from gestalt.config.check import check_features
from gestalt.config.schema import Experiment
from gestalt.data_modules.keys import check_options
from gestalt.support.keys import Complaints, refuse, refuse_first

LAUNCHERS = ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "NODE_RANK", "GROUP_RANK")
"""Environment variables by which Lightning recognises a launcher."""

NOT_A_PATH = ("://", "{", "*", "?", "[")
"""Signs of a URL or a pattern."""


def check_nodes(config: Experiment, environment: Mapping[str, str]) -> None:
    """Refuse several nodes where no launcher has started their processes: the run would wait for
    them.

    Raises:
        ConfigError: names the launchers.
    """
    nodes = config.trainer.num_nodes
    if nodes > 1 and not any(name in environment for name in LAUNCHERS):
        refuse(
            "trainer.num_nodes",
            nodes,
            f"no launcher started the other nodes; call it under torchrun --nnodes {nodes} or "
            "SLURM, or choose 1",
        )


def check_training(config: Experiment) -> None:
    """Refuse a training run that would learn nothing, or that would ignore a key.

    Raises:
        ConfigError: names the key, its value and what to choose.
    """
    check_options(config.data)
    if config.data.features is not None:
        check_features(config)
    refuse_first(config, _of_training(config))


def _of_training(config: Experiment) -> Complaints:
    batch = config.data.batch_size
    if batch * config.trainer.accumulate_grad_batches == 1:
        why = "the other pairs of a batch are a pair's negatives, and there would be none"
        yield "data.batch_size", f"{why}; choose 2 or more"
    ranks = (config.trainer.named_devices() or 1) * config.trainer.num_nodes
    if batch % ranks:
        why = (
            f"cannot be shared by {ranks} ranks (trainer.devices={config.trainer.devices}, "
            f"trainer.num_nodes={config.trainer.num_nodes}); choose a multiple, such as "
            f"{batch // ranks * ranks or ranks}"
        )
        yield "data.batch_size", why
    steps = config.trainer.max_steps
    if 0 < steps < config.optimizer.warmup_steps:
        why = f"the run ends after trainer.max_steps={steps}; choose no more"
        yield "optimizer.warmup_steps", why
    if config.evaluation.calibration is not None:
        why = "a threshold is calibrated for trained weights; leave it out, and pass it to"
        yield "evaluation.calibration", f"{why} `gestalt eval`"


def check_places(config: Experiment) -> None:
    """Refuse a folder or a file that does not exist, before anything heavy is imported to read it.

    Raises:
        ConfigError: names the key and the path.
    """
    places = {
        "data.manifest": config.data.manifest,
        "image.weights": config.image.weights,
        "benchmark_root": config.benchmark_root,
        "data.features": config.data.features,
    }
    if config.data.source != "hub":
        places["data.root"] = config.data.root
    # else it is last or auto, or ``resolve_resume`` refuses it
    if config.resume is not None and "/" in config.resume:
        places["resume"] = config.resume
    for key, place in places.items():
        if place is None or any(sign in place for sign in NOT_A_PATH):
            continue
        path = Path(place).expanduser()
        if not path.exists():
            refuse(key, place, f"not found (looked for {path.absolute()})")
