"""Ground truth: finding images, reading and writing data sets, pairing them with files of stages, lint."""
