"""Stage 1, image -> boxes: the plugin hook, the sources, ranking, the runner, recall."""
