"""What trains a model: schedule, micro-batches, checkpoints, and what watches a run."""
