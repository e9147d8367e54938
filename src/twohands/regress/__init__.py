"""Stage 1, align: a photo's hand crops and 2D priors in, both hands and their relative place out."""
