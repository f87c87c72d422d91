"""The training of a model: schedule, micro-batches, checkpoints, and callbacks that watch a run."""
