"""Zoo: other people's models as a ``DualEncoder``, to be evaluated like ours."""
