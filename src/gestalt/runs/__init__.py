"""Runs: their parts, their work (training, scoring, pretraining), and their folders."""
