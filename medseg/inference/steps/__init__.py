"""The steps around a network: those of MONAI, and the same ones in NumPy."""
