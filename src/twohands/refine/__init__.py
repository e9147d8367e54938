"""Stage 2, refine: a diffusion model that turns hands which pass through each other into plausible ones."""
