"""Results as JSON, each with its provenance, and the tables and pages made from them."""
