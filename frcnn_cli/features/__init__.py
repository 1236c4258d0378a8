"""Stage 2, image -> conv map: resize and normalise, backbones, extraction."""
