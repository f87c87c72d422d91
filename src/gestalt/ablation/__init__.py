"""Studies: grids of runs and surveys of models, and the jobs that run them."""
