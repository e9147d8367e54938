"""Whole corpora: folders of photos and videos in, Parquet out, on as many processes and machines as there are."""
