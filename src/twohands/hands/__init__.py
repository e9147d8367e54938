"""Parametric hands: the bundled free one, and MANO for those who own it."""
