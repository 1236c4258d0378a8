"""Vectors for boxes: what they are, and one file per format of this field's programs, which reads and writes it."""
