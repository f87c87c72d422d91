"""The configuration: schema, loading, checks, and what tells two runs apart."""
