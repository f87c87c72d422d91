"""Zoo: other people's models as a ``DenseModel``, to be evaluated like ours."""
