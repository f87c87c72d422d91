"""Build the objects of an Experiment: model, data, evaluation, pretraining; open other people's
models.
"""
