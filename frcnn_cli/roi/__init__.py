"""Stage 3, map + boxes -> class scores and refined boxes: pooling, head, box coder."""
