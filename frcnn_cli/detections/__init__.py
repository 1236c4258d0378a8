"""Stage 4, scores -> detections: non-maximum suppression."""
