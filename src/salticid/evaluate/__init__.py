"""Metrics, one module per kind of output. All return one value a sample."""
