"""The number of loading processes: as set, or chosen from cores, image size and where steps run."""

import pytest

from gestalt.config.loading import load
from gestalt.config.schema import config_hash
from gestalt.runs import source
from gestalt.runs.source import (
    check_shared,
    choose_workers,
    loading_processes,
    reading_processes,
)
from gestalt.support.typed import ConfigError

GIB = 2**30


def config_of(*words, name="clippy_dino_max", scale="cc12m"):
    """Load an experiment at a scale of photographs."""
    places = ("benchmark_root=DIR", "data.root=DIR")
    return load(name, scale=scale, overrides=[*places, *words])


@pytest.mark.parametrize(
    ("cores", "pairs", "memory", "shared", "batches", "chosen"),
    [
        (64, 8, 64, 32, 99, (16, "the disk")),
        (64, 8, 64, 32, 3, (3, "the dataset")),
        (16, 4096, 120, 64, 99, (13, "/dev/shm")),  # 3 within 4 GiB
        (16, 8192, 120, 64, 99, (6, "/dev/shm")),  # 1 within 4 GiB
        (26, 8192, 230, 230, 99, (16, "memory")),
        (16, 4096, 120, 0.0625, 99, (1, "/dev/shm")),  # a container's usual size
    ],
)
def test_workers_leave_a_core_free_and_bound_the_batches_that_are_ready(
    cores, pairs, memory, shared, batches, chosen, monkeypatch
):
    monkeypatch.setattr(source, "cpu_count", lambda: cores)
    monkeypatch.setattr(source, "free_room", lambda: (memory * GIB, int(shared * GIB)))
    number, bound = chosen
    words = ("trainer.accelerator=gpu", "trainer.devices=1", "image.train_size=224")
    config = config_of(*words, f"data.batch_size={pairs}")
    found, why = choose_workers(config, batches * pairs)
    assert found == number
    assert why.endswith(f"accelerator; bound by {bound}")


@pytest.mark.parametrize("number", [0, 2, 8])
def test_batches_that_do_not_fit_the_shared_memory_are_refused(number, monkeypatch):
    monkeypatch.setattr(source, "free_room", lambda: (GIB, 64 * 2**20))
    # five batches of 9.6 MB with two processes
    config = config_of("image.train_size=224", "data.batch_size=64")
    if number < 8:
        return check_shared(config, number)
    with pytest.raises(ConfigError, match=r"data.workers=8: .* 163.8 MB of /dev/shm, where 67.11"):
        check_shared(config, number)


EIGHT = ("trainer.accelerator=gpu", "trainer.devices=8", "trainer.num_nodes=4")


def test_the_description_names_the_inputs_of_the_choice(monkeypatch):
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    monkeypatch.setattr(source, "cpu_count", lambda: 64)
    monkeypatch.setattr(source, "free_room", lambda: (512 * GIB, 256 * GIB))
    config = config_of(*EIGHT)
    assert choose_workers(config) == (
        7,
        "chosen: 8 cores, batches of 256 images of 448 px, steps on an accelerator; bound by cores",
    )
    assert loading_processes(config, pairs=3 * 8192) == 3
    parts = config_of(*EIGHT, "data.batch_size=512", "trainer.accumulate_grad_batches=16")
    assert choose_workers(parts) == choose_workers(config)  # a loader's batch is that of a step
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert "16 cores" in choose_workers(config)[1]


def test_a_configured_number_of_workers_is_kept():
    config = config_of("data.workers=3")
    assert choose_workers(config) == (3, "as set")
    assert reading_processes(config.data) == min(3, source.cpu_count())
    assert config_hash(config) == config_hash(config_of())


def test_training_on_the_cpu_uses_one_loading_process():
    config = config_of("trainer.accelerator=cpu", name="clippy_supervised_max", scale="photos")
    number, why = choose_workers(config)
    assert number == 1
    assert "take the cores themselves" in why
