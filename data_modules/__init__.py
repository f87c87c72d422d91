"""Data: batches, and the sources and image sets that fill them.  Independent of the model."""
