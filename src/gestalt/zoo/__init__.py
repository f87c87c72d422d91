"""Other people's models, as the ``DualEncoder`` that everything here scores."""
