"""Many images through a detector: decoding ahead, batching, writing in the background."""
