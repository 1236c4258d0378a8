"""RoI sampling, the multi-task loss, the schedule, the loop, checkpoints."""
