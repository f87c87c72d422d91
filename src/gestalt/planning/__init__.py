"""Planning: what a few steps of a training run say of all of it, before it starts."""
