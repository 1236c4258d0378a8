"""Training: RoI targets, the multi-task loss, SGD, the loop, checkpoints, validation, SVMs."""
