"""The shared vocabulary: boxes, images, annotations, drawing, options, errors. Imports nothing else of the package."""
