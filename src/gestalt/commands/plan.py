"""train --plan: take a few real steps, and print an estimate of the whole run.  No file is written."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from gestalt.building.compiling import check_compiler
from gestalt.building.model import check_deterministic, check_machine, check_names
from gestalt.building.source import init_file_of, pairs_a_step
from gestalt.building.workers import loading_processes
from gestalt.callbacks.loggers import check_loggers
from gestalt.commands.flop_trial import counted_flop, read
from gestalt.commands.plan_lines import Planned, lines
from gestalt.commands.plan_trial import Trial, counted_steps, drawn, held, memory_of, timed_steps, trial_of, validated
from gestalt.commands.process import quiet
from gestalt.config.schema import ConfigError, Experiment, refuse, uses_made
from gestalt.planning.machine import cores_for_each, disk_room, memory_room
from gestalt.planning.probes import Step
from gestalt.planning.reckoning import WAITING, Loading, Run, Validation, validations
from gestalt.support.memory import keep_freed_memory

PROCESSES = {"WORLD_SIZE": "torchrun", "SLURM_NTASKS": "SLURM"}
"""Environment variables with the number of processes that a launcher started."""


def plan(config: Experiment) -> int:
    """Print the plan of a run.

    Returns:
        The exit status: 1 if the run would stop for want of memory or disk.

    Raises:
        ValueError: the configuration cannot run, or a launcher started several processes.
    """
    quiet()
    check_alone(os.environ)
    check_names(config)
    check_machine(config.trainer)
    check_deterministic(config)
    check_loggers(config)
    check_compiler(config.trainer)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        planned = measured(config, folder=Path(folder))
    print("\n".join(lines(planned)))
    return planned.status


def check_alone(environment: Mapping[str, str], *, what: str = "--plan measures") -> None:
    """Refuse a launcher's several processes, each of which would do the same; ``what`` begins the message.

    Raises:
        ConfigError: names the launcher.
    """
    for name, launcher in PROCESSES.items():
        if environment.get(name, "1") != "1":
            raise ConfigError(f"{what} one device in one process, and {launcher} started {environment[name]}; call it without {launcher}")


def measured(config: Experiment, *, folder: Path) -> Planned:
    """Take the steps, score a few images, and return the measurements."""
    devices = devices_of(config)
    ranks = devices * config.trainer.num_nodes
    batch, left = divmod(pairs_a_step(config), ranks)
    if left:
        refuse("data.batch_size", config.data.batch_size, f"cannot be shared by {ranks} devices; choose a multiple of {ranks}")
    on_cuda = uses_cuda(config)
    room = memory_room(torch.device("cuda" if on_cuda else "cpu")) / (1 if on_cuda else devices)
    unmade = uses_made(config) and not init_file_of(config).exists()
    trial = trial_of(config, batch=batch, unmade=unmade, folder=folder)
    rate, made = drawn(trial.data, batch=batch)
    steps, kept, device = counted_steps(trial, made, batch=batch)
    fit = partial(memory_of, steps, kept=kept, ranks=ranks, compared=held(config))
    fitting = min(batch, fit(()).largest(room))
    flop = counted(trial)
    timed, refused = timed_steps(trial, made, batch=batch, fitting=fitting)
    validation = validated(trial, ranks=ranks) if config.evaluation.benchmarks else Validation(0.0, (), ())
    return Planned(
        config,
        device=device,
        ranks=ranks,
        batch=batch,
        timed=timed,
        memory=fit(timed),
        refused=refused,
        flop=flop,
        room=room,
        loading=loading_of(timed, one=rate, workers=loading_processes(config), cores=cores_for_each(devices)),
        run=Run(
            trial.total,
            step=_mean([step.waited + step.computed for step in timed]) * batch / (timed[0].batch if timed else 1),
            validations=validations(trial.total, epoch=trial.epoch, every=config.trainer.check_val_every_n_epoch),
            validation=validation.seconds,
        ),
        disk=disk_room(Path.cwd()),
        bad=int((~made["valid"]).sum()),
        drawn=len(made["text"]),
        unmade=unmade,
    )


def counted(trial: Trial) -> int:
    """Return the FLOP of a step; 0 if a few pairs do not fit the memory, or none of the first can be read."""
    try:
        return counted_flop(trial, read(trial))
    except (torch.OutOfMemoryError, ConfigError):
        return 0


def loading_of(timed: Sequence[Step], *, one: float, workers: int, cores: int) -> Loading:
    """Return the speeds of a loading process and of the device; if steps waited for data, they give the former in place of ``one``."""
    if not timed:
        return Loading(one, device=0.0, cores=cores)
    pairs, seconds = sum(step.batch for step in timed), sum(step.waited + step.computed for step in timed)
    computed = sum(step.computed for step in timed)
    if workers and computed < (1 - WAITING) * seconds:
        one = pairs / seconds / min(workers, cores)
    return Loading(one, device=pairs / computed, cores=cores)


def uses_cuda(config: Experiment) -> bool:
    """Return True if the run takes a CUDA device."""
    return config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def devices_of(config: Experiment) -> int:
    """Return the devices of a node that the configuration asks for."""
    chosen = str(config.trainer.devices)
    if chosen in ("auto", "-1"):
        return torch.cuda.device_count() if uses_cuda(config) else 1
    return len(chosen.split(",")) if "," in chosen else int(chosen)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
