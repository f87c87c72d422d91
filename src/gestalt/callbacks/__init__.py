"""Callbacks of training: checkpoints, time, speed, unreadable samples, profiling and pictures."""
