"""Bottom-up grouping: Jaccard similarity of groups and objects."""
