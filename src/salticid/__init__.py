"""salticid: train, evaluate and run five families of vision models on shared cores."""

__version__ = "0.1.0"
