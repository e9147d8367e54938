"""Training: data to batches, losses to weights. Needs the `train` extra."""
