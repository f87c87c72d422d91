"""Metrics: integer counts with the sample's id, gathered over ranks, divided once.

Never the mean of per-image or per-rank values: counts are summed in int64, and the only division is the last step, in float64.
"""
