"""Results files (JSON with provenance), and the tables and pages that are made from them."""
