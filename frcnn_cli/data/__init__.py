"""Images and ground truth: finding files, decoding them, reading data sets."""
