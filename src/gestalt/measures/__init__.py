"""Measures, one folder per measure, with an engine, a metric and a callback.

Metrics keep integer counts with the sample's id, gathered over ranks, and never average values of
images or ranks: counts are summed in int64, and the only division is the last step, in float64.
"""
