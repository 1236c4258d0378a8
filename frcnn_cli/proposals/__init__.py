"""Stage 1, image -> boxes: the plugin hook, the sources, ranking, worker processes, box files, recall."""
