"""Results as JSON, each with what it takes to trust it."""
