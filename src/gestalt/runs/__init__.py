"""The parts of a run, the work on it (training, scoring, pretraining), and its folder."""
