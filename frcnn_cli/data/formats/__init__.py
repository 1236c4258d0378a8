"""Formats of labelled data sets, one file per format."""
