"""Selective search (Uijlings et al., IJCV 2013): regions at many scales, grouped by similarity."""
