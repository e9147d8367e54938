"""The synthetic engine: seeds to photos of hands with exact truth. Training only; using the method does not need it."""
