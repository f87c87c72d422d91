"""train --plan: estimate the time and memory that a run needs, and report what is missing.

Each check prints one line.  No run folder is written.
"""

import math
import time
import traceback
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from joblib import cpu_count
from lightning.pytorch.callbacks import Timer

from gestalt.config.check import check_training
from gestalt.config.schema import Experiment
from gestalt.data_modules.corpora.shard_names import expand
from gestalt.data_modules.keys import Data
from gestalt.encoders.keys import Text
from gestalt.models.building import without_weights
from gestalt.results.record import device_name
from gestalt.results.text import amount, span
from gestalt.runs.process import check_alone, prepare
from gestalt.runs.source import (
    MAX_WORKERS,
    SHARED,
    build_source,
    check_shared,
    loading_processes,
    pairs_a_step,
    ranks_here,
    shared_bytes,
    steps,
)
from gestalt.runs.trial import (
    MAX_PAIRS,
    build_trial,
    count_training,
    read_pairs,
    repeat,
    take_steps,
    time_step,
    time_validation,
)
from gestalt.support.addresses import without_secrets
from gestalt.support.files import free_bytes
from gestalt.support.process import free_memory
from gestalt.support.typed import ConfigError, NotThere
from gestalt.training.progress import peak_memory
from gestalt.training.trainer import on_cuda

LOADING_OVER_COMPUTING = 1.2
"""Recommended ratio of the speed of loading to the speed of the device.  It is above 1 because both
vary.
"""

CHECKPOINTS_AT_ONCE = 3
"""Maximum number of checkpoints in a run's folder at one time: the last, the best, and one that is
being written.
"""

PAIRS_A_TAR = 5041
"""Assumed number of image-text pairs in a tar when no tar exists yet: the mean of CC12M, which has
10,968,539 pairs in 2,176 tars.  Source: the description of pixparse/cc12m-wds on the Hugging Face
hub.
"""

PEAKS = {"A100": 312e12, "H100": 989e12}
"""Device -> its peak throughput in bf16 without sparsity, in FLOP per second.  Source:
pytorch/torchtitan, tools/utils.py.
"""

PEAK_SHARES = (0.15, 0.25)
"""Shares of the peak throughput that training reaches: a usual share and a good share.  open_clip's
ViT-B/16 on LAION-400M took 10,700 A100 hours for 13.0 billion pairs, which is 13 % of the peak.
"""


def plan(config: Experiment) -> int:
    """Print the plan of a run, with one line for each check.

    Returns:
        The exit status: 1 if something must be fixed, else 0. Files that do not exist yet do not
        count as something to fix.

    Raises:
        ValueError: the configuration cannot run, or a launcher started several processes.
    """
    check_alone("--plan measures")
    run = Stations(config)
    print(
        f"plan of {config.name} at scale {config.scale} for {run.ranks} devices, made on "
        f"{device_name(run.device)}; scenes and random weights replace what is missing; no run is "
        "written"
    )
    status = 0
    for station in run.stations():
        try:
            state, text = "ok", station()
        except NotThere as error:
            state, text = "not there yet", str(error)
        except ValueError as error:
            state, text, status = "fix", str(error), 1
        print(without_secrets(f"{state:<13}  {station.__name__}: {text}"), flush=True)
    return status


class Stations:
    """The checks of a plan, in the order of a run: from opening its files to its last step.

    Each check is a method. It returns the text to print; it raises ``NotThere`` if files are
    missing, and another ValueError if something must be fixed.

    Steps are timed even if files are missing. Synthetic scenes then replace the image-text pairs,
    random weights replace pretrained weights, and a text tower with the shape of CLIP's replaces a
    text model. If there are fewer pairs than a batch needs, pairs are repeated.

    Attributes:
        config: configuration of the run.
        ranks: number of devices of the run, ``local`` of them on each node.
        share: number of pairs of a batch on each device.
        elsewhere: True if the run is for other devices: this machine has no accelerator, and the
            configuration names one or asks for several devices.
        device: device of this machine on which steps are timed.
        unopened: the error for which the training pairs cannot be read; None if they can be read.
        unloaded: the errors for which weights cannot be loaded.
        trial: the parts of the run, built for steps on this machine.
        pairs: batch of image-text pairs that the steps use.
        facts: description of the pairs; ``there`` is the number of pairs that exist.
        saved: size of a checkpoint in bytes.
        workers: number of loading processes for each device; the maximum number if ``elsewhere``.
        flop: FLOP of a step, summed over all devices.
        starting: seconds to open data and weights.
        seconds: seconds of a step; 0 if no step was timed.
        scoring: seconds of one validation.
    """

    def __init__(self, config: Experiment) -> None:
        """Open the data and the weights that exist.

        Raises:
            ValueError: the configuration cannot run with any data or weights.
        """
        self.config = config
        self.local = ranks_here(config)
        self.ranks = self.local * config.trainer.num_nodes
        self.share = math.ceil(config.data.batch_size / self.ranks)
        here = deepcopy(config)
        here.trainer.devices = 1
        wanted = config.trainer.accelerator
        self.elsewhere = not torch.accelerator.is_available() and (
            wanted not in ("auto", "cpu") or (wanted == "auto" and self.ranks > 1)
        )
        if self.elsewhere:
            here.trainer.accelerator = "cpu"
            here.trainer.precision = "32-true"  # a CPU has no float16
        prepare(here)
        self.device = torch.device("cuda" if on_cuda(here.trainer) else "cpu")
        here.data.max_bad_share = 1.0  # the plan reports missing shards itself
        self.unopened: ValueError | None = None
        try:
            build_source(here)
        except ValueError as error:
            self.unopened = error
            here.data = Data("scenes", limit=MAX_PAIRS)
        self.unloaded: list[ValueError] = []
        width = config.projection.width
        text = Text("open_clip", init="random", layers=12, width=width, heads=math.gcd(width, 12))
        drawn = without_weights(here)
        for tried in (here, drawn, replace(drawn, text=text)):
            try:
                # Counting comes before the trial, so that only one model at a time is in memory.
                self.flop, self.saved = count_training(tried, pairs_a_step(config))
                begin = time.monotonic()
                self.trial = build_trial(tried)
                self.starting = time.monotonic() - begin
                break
            except ValueError as error:
                traceback.clear_frames(error.__traceback__)  # the frames hold towers
                self.unloaded.append(error)
        else:
            raise self.unloaded[-1]
        self.pairs = read_pairs(self.trial)
        self.facts = self.trial.data.about()
        self.there = 0 if self.unopened else self.facts["samples"]
        self.workers = loading_processes(config)
        if self.elsewhere and config.data.workers is None:
            self.workers = MAX_WORKERS  # the maximum that is chosen there
        self.seconds = self.scoring = 0.0

    def stations(self) -> list[Callable[[], str]]:
        """Return the checks in order.  Some use what an earlier check has measured."""
        return [
            self.index,
            self.captions,
            self.weights,
            self.batch,
            self.memory,
            self.step,
            self.loading,
            self.shm,
            self.validation,
            self.checkpoint,
            self.disk,
            self.hours,
        ]

    def index(self) -> str:
        """Report which shards and pairs exist."""
        if self.unopened:
            raise self.unopened
        text = self.trial.data.summary()
        faults = set().union(*self.facts.get("mixture", [self.facts]))
        if faults & {"empty_shards", "truncated_shards"}:
            raise ConfigError(f"{text}; copy these again")
        if "missing_shards" in faults:
            raise NotThere(f"{text}; see `gestalt data get`")
        return text

    def captions(self) -> str:
        """Report how many pairs have captions from a separate table."""
        if self.unopened:
            raise NotThere("known once pairs can be read")
        parts = self.facts.get("mixture", [self.facts])
        joined = [
            f"{table['with_row']:,} of {table['pairs']:,} pairs have a row of {table['root']}"
            for table in (part.get("captions") for part in parts)
            if table
        ]
        return ", ".join(joined) or "those of the source"

    def weights(self) -> str:
        """Report where the weights come from."""
        if self.unloaded:
            kind = NotThere if isinstance(self.unloaded[0], NotThere) else ConfigError
            raise kind("; ".join(dict.fromkeys(map(str, self.unloaded))))
        model = self.trial.module.model
        return f"image {model.image_origin.source}, text {model.text_origin.source}"

    def batch(self) -> str:
        """Report how the pairs of a step are divided among devices."""
        check_training(self.config)
        pairs = pairs_a_step(self.config)
        text = f"{pairs:,} pairs a step, {pairs // self.ranks:,} on each of {self.ranks} devices"
        if self.there < pairs:
            raise NotThere(f"{text}; a run needs them, and {self.there:,} can be read")
        return text

    def memory(self) -> str:
        """Take training steps and report their peak memory.

        On CUDA the number of pairs is halved until they fit. On a CPU only a few pairs are used,
        because the system would kill a process that runs out of memory.
        """
        if self.elsewhere:
            return (
                f"weights and optimiser take {amount(self.saved, 'B')}, a step more, which is "
                "measured where an accelerator is, or for this CPU by trainer.accelerator=cpu"
            )
        cuda = self.device.type == "cuda"
        parts = self.config.trainer.accumulate_grad_batches
        take_steps(self.trial, repeat(self.pairs, parts))
        before = peak_memory(self.device)  # of weights and optimiser state
        free = torch.cuda.mem_get_info()[0] if cuda else free_memory() / self.local
        taken = self.share if cuda else min(self.share, MAX_PAIRS)
        while taken and not self.seconds:
            batch = repeat(self.pairs, taken * parts)
            try:
                self.seconds = time_step(self.trial, batch) * self.share / taken
            except torch.OutOfMemoryError:
                taken //= 2
        more = (peak_memory(self.device) - before) * self.share / max(1, taken)
        text = (
            f"{amount(before + more, 'B')} of {amount(before + free, 'B')} for {self.share:,} "
            "pairs a device"
        )
        if more <= free:
            return text
        fitting = taken if cuda else int(self.share * free / more)
        raise ConfigError(
            f"{text}; choose data.batch_size={max(1, fitting) * self.ranks}, a smaller image or "
            "model, image.gradient_checkpointing=true, or more devices"
        )

    def step(self) -> str:
        """Report the FLOP of a step and how long it takes."""
        pairs = pairs_a_step(self.config)
        text = f"{amount(self.flop, 'FLOP')} for {pairs:,} pairs"
        if not self.seconds:
            return f"{text}; {self._estimated(1)}"
        return (
            f"{text}, {self.seconds:.3g} s uncompiled, {pairs / self.seconds:,.1f} images/s if the "
            "exchange of devices takes no time"
        )

    def _estimated(self, count: int) -> str:
        """Return the estimated time of ``count`` steps on each device of ``PEAKS``."""
        low, high = PEAK_SHARES
        times = []
        for name, peak in PEAKS.items():
            whole = count * self.flop / (self.ranks * peak)
            unit = span if whole > 60 else "{:.2g} s".format
            times.append(f"{name} {unit(whole / low)} to {unit(whole / high)}")
        return f"{', '.join(times)}, estimated at {low:.0%} and {high:.0%} of their peak in bf16"

    def loading(self) -> str:
        """Time the reading of pairs, and report how many loading processes keep up with a step."""
        if self.unopened:
            raise NotThere("it is timed once image-text pairs are there")
        begin = time.monotonic()
        read = len(read_pairs(self.trial, first=MAX_PAIRS)["text"])
        each = (time.monotonic() - begin) / MAX_PAIRS
        fastest = self.flop / (self.ranks * PEAKS["H100"] * PEAK_SHARES[1])
        loaded = each * pairs_a_step(self.config) / self.ranks
        wanted = math.ceil(LOADING_OVER_COMPUTING * loaded / (self.seconds or fastest))
        text = (
            f"{1 / each:,.0f} pairs/s a process, {MAX_PAIRS - read} of {MAX_PAIRS} cannot be read; "
            f"{wanted} processes a device keep up with "
            f"{'a step' if self.seconds else 'an H100'}; data.workers is {self.workers}"
        )
        if read < (1 - self.config.data.max_bad_share) * MAX_PAIRS:
            raise ConfigError(f"{text}; gestalt data inspect {self.config.data.source} says why")
        if self.device.type == "cuda" and self.workers < wanted:
            raise ConfigError(
                f"{text}; choose {wanted}, of {cpu_count() // self.local} cores a device, or "
                "store smaller images"
            )
        return text

    def shm(self) -> str:
        """Report how much shared memory the batches take."""
        text = (
            f"{amount(shared_bytes(self.config, self.workers), 'B')} of {SHARED} for "
            f"{self.workers} processes of each of {self.local} devices of a node"
        )
        if not self.elsewhere:
            check_shared(self.config, self.workers)
        return text

    def validation(self) -> str:
        """Score a few images of each benchmark, and report the time of a whole validation."""
        names = self.config.evaluation.benchmarks
        if not names:
            return "evaluation.benchmarks names none"
        self.scoring = time_validation(self.trial, names, ranks=self.ranks)
        return f"{span(self.scoring)} here for {', '.join(names)}"

    def checkpoint(self) -> str:
        """Report the size of a checkpoint."""
        return (
            f"{amount(self.saved, 'B')} each, {CHECKPOINTS_AT_ONCE} at most (last, best, one "
            "while it is written) beside those of checkpoint_keep"
        )

    def disk(self) -> str:
        """Compare the free disk space with the space that checkpoints take."""
        every = self.config.checkpoint_keep
        count = CHECKPOINTS_AT_ONCE + (self._length()[1] // every if every else 0)
        free, need = free_bytes(Path.cwd()), count * self.saved
        text = f"{amount(need, 'B')} of the {amount(free, 'B')} that are free in {Path.cwd()}"
        if need > free:
            raise ConfigError(f"{text}; free some space, or start the run in another folder")
        return text

    def _length(self) -> tuple[int, int, int]:
        """Return the steps of an epoch, the steps of the run, and the pairs of an epoch.

        Pairs of missing shards are included. If no shard exists, the number of pairs is estimated
        from the number of tar names.
        """
        data = self.config.data
        if self.unopened and data.source == "tars" and not data.mixture:
            pairs = PAIRS_A_TAR * len(expand(data.root))
        else:
            missing = self.facts.get("missing_shards", {"count": 0})["count"]
            pairs = round(self.there * (1 + missing / self.facts["shards"]))
        pairs = min(pairs, data.limit or pairs)
        if pairs < pairs_a_step(self.config):
            raise NotThere(
                "the number of steps, see step for one, is known once all pairs are there"
            )
        epoch, total = steps(self.config, pairs)
        return epoch, total, pairs

    def hours(self) -> str:
        """Report how long the run takes, and which parts of its start and end are counted.

        A run that ``trainer.max_time`` would end before its last step must be fixed.
        """
        epoch, total, pairs = self._length()
        text = f"{total:,} steps of {pairs:,} pairs an epoch"
        if self.unopened:
            text += f", if each tar has the {PAIRS_A_TAR:,} of CC12M's"
        if not self.seconds:
            return (
                f"{text}; {self._estimated(total)}; start-up, validations and the writing of "
                "checkpoints are not counted"
            )
        times = math.ceil(total / (epoch * self.config.trainer.check_val_every_n_epoch))
        seconds = self.starting + total * self.seconds + times * self.scoring
        text = (
            f"{span(seconds)} to the end: {span(self.starting)} of start-up, {text} and {times:,} "
            "validations, the last one included; the writing of checkpoints is not counted"
        )
        longest = self.config.trainer.max_time
        if seconds > (Timer(longest).time_remaining() or math.inf):
            raise ConfigError(
                f"{text}; trainer.max_time={longest} ends it before its last step; choose a longer "
                "one, or fewer steps"
            )
        return text
