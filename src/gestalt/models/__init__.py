"""Build any model, and open any: runs, exported folders, the hub, other libraries."""
