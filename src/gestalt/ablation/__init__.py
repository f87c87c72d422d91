"""Studies: grids of runs, and the tables, plots and pictures that compare them."""
