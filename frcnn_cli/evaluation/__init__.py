"""Detections + ground truth -> average precision. NumPy only; nothing here needs torch."""
