"""Annotated images on disk: readers that turn files into `Sample` records, and the shards that training reads."""
