"""Experiment to objects: model, data, evaluation, pretraining, other people's models."""
