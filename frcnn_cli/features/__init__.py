"""Stage 2, image -> conv map: the image transform and the backbones."""
