"""Detectors that others trained, as Fast R-CNN: torchvision's Faster R-CNN models, with their weights for COCO."""
