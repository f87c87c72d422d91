"""The training stream: the same samples for any workers, ranks and interruptions."""

from functools import partial
from itertools import product

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from gestalt.data_modules.image_text import ImageTextDataModule
from gestalt.data_modules.sources import Source
from gestalt.data_modules.validation import ImageSetDataModule
from tests.gestalt.at_step import QUIET

# few workers are meant here; on 3.12 and later fork warns because torch has threads
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*use of fork.*"),
]


class Counted(Source):
    """A source whose image, (3, 1, 1), and caption encode sample and epoch."""

    def __len__(self):
        return 26

    def pair(self, index, epoch):
        return torch.full((3, 1, 1), index, dtype=torch.uint8), f"{epoch}/{index}"

    def digest(self):
        return "counted"


class Threads(Counted):
    """A source whose captions are the number of torch threads in the reading process."""

    def pair(self, index, epoch):
        return torch.zeros(3, 1, 1, dtype=torch.uint8), str(torch.get_num_threads())

    def digest(self):
        return "threads"


class OnePixel:
    """An image set of three images, to validate between epochs."""

    name, labels, official_length = "one_pixel", None, None

    def __len__(self):
        return 3

    def sample(self, index):
        return {"image": torch.zeros(3, 1, 1, dtype=torch.uint8), "name": str(index)}


class Killed(Exception):
    """The machine went away."""


class Recorder(BoringModel):
    """Records the captions of each step; saves and dies after step ``dies`` of the run."""

    def __init__(self, *, dies=None, file=None):
        super().__init__()
        self.dies, self.file = dies, file
        self.seen = []

    def training_step(self, batch, _):
        self.seen.append(batch["text"])
        return self.layer.bias.sum()

    def on_train_batch_end(self, *_):
        if self.global_step == self.dies:
            self.trainer.save_checkpoint(self.file)
            raise Killed

    def validation_step(self, batch, _):
        pass


def trainer(tmp_path, **arguments):
    chosen = {"max_epochs": 3, "default_root_dir": tmp_path}
    return Trainer(**QUIET, **chosen, **arguments)


def module(workers=0, source=None, seed=0):
    validation = ImageSetDataModule([OnePixel()], batch_size=2, workers=0)
    return ImageTextDataModule(
        source or Counted(), size=1, batch_size=5, workers=workers, seed=seed, validation=validation
    )


def test_any_number_of_workers_and_of_accumulated_batches_reads_the_same_stream(tmp_path):
    streams = []
    for workers, batches in ((0, 1), (1, 1), (2, 1), (0, 2)):
        recorder = Recorder()
        trainer(tmp_path, accumulate_grad_batches=batches).fit(recorder, module(workers))
        streams.append(recorder.seen)
    assert len(streams[0]) == 15
    assert streams == 4 * streams[:1]


def test_batches_that_a_trainer_would_repeat_are_refused(tmp_path):
    with pytest.raises(ValueError, match="overfit_batches=1: these batches are not reordered"):
        trainer(tmp_path, overfit_batches=1).fit(Recorder(), module())


@pytest.mark.parametrize(
    ("step", "workers", "limit"),
    [*product([1, 4, 5, 6, 9, 13], [0, 1], [1.0]), (4, 0, 3), (3, 0, 0.5)],
)
def test_a_run_resumed_at_any_step_sees_what_an_uninterrupted_one_sees(
    tmp_path, step, workers, limit
):
    whole, first, second = Recorder(), Recorder(dies=step, file=tmp_path / "last.ckpt"), Recorder()
    limited = partial(trainer, tmp_path, limit_train_batches=limit)
    limited().fit(whole, datamodule=module())
    assert len(whole.seen) == {1.0: 15, 3: 9, 0.5: 6}[limit]
    with pytest.raises(Killed):
        limited().fit(first, datamodule=module(workers))
    limited().fit(second, datamodule=module(workers), ckpt_path=tmp_path / "last.ckpt")
    assert first.seen == whole.seen[:step]
    assert second.seen == whole.seen[step:]


def test_a_checkpoint_of_another_stream_is_refused():
    state = module().train_dataloader().state_dict()
    module().train_dataloader().load_state_dict(state)
    with pytest.raises(ValueError, match="seed was 0, is 1"):
        module(seed=1).train_dataloader().load_state_dict(state)
    with pytest.raises(ValueError, match="digest was counted, is threads"):
        module(source=Threads()).train_dataloader().load_state_dict(state)


def test_workers_run_torch_on_one_thread():
    batches = list(module(workers=1, source=Threads()).train_dataloader())
    assert {text for batch in batches for text in batch["text"]} == {"1"}
