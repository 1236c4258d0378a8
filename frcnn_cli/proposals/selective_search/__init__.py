"""Selective search (Uijlings et al., IJCV 2013), written for speed: regions at many scales, grouped by similarity."""
