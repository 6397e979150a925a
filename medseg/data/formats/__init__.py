"""Formats of images, one in each file: how it is recognised, read strictly and written; ``table`` lists them."""
