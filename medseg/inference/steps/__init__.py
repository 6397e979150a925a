"""Steps from an image to a network's input and from labels to better ones: MONAI's, or NumPy's for exported bundles."""
