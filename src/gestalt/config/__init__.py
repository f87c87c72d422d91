"""The configuration: schema, loading, checks, and the hash that identifies a run."""
