"""Rotations, cameras, crops and meshes: the only place where frames are defined."""
