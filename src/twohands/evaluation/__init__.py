"""The judge: metrics and named protocols over plain arrays. It is given predictions and sees no network."""
