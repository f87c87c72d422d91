"""Check of a trainer's accelerator, devices and precision on this machine, without Lightning."""

import os

import torch

from gestalt.training import keys


def check_machine(trainer: keys.Trainer) -> None:
    """Check that this machine has the accelerator and the precision, before a run's folder is made.

    Raises:
        ValueError: names the key and what to choose.
    """
    accelerator, precision = trainer.accelerator, trainer.precision
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    available["gpu"] = available["cuda"] or available["mps"]
    if not available.get(accelerator, True):
        raise ValueError(
            f"trainer.accelerator={accelerator}: torch finds none on this machine; choose auto or "
            "cpu"
        )
    stated = os.environ.get("PYTHON_CPU_COUNT", "")  # which os.cpu_count reads from Python 3.13 on
    cores = int(stated) if stated.isdecimal() else os.cpu_count() or 1
    on_cpu = accelerator == "cpu" or not available["gpu"]
    if on_cpu and "," in str(trainer.devices):
        raise ValueError(
            f"trainer.devices={trainer.devices}: torch finds no GPU of these numbers on this "
            "machine; choose a number of devices"
        )
    if on_cpu and trainer.named_devices() > cores:
        raise ValueError(
            f"trainer.devices={trainer.devices}: a rank takes a core, and this machine has "
            f"{cores}; choose at most {cores}"
        )
    if precision.startswith("16") and on_cpu:
        raise ValueError(
            f"trainer.precision={precision}: a CPU has no float16; choose bf16-mixed or 32-true"
        )
