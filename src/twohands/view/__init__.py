"""Pictures of reconstructed hands."""
