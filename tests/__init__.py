"""The test suite: mirrors `src/salticid`. A package, so that none installed under this name stands before it."""
