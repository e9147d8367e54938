"""Hands over time: who is who, smooth, and written while it runs."""
