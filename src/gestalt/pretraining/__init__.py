"""Pretraining: makes image tower weights where none can be downloaded, by self-distillation or
supervised classification.
"""
