"""Bundles exported whole, network and steps, so that they predict without PyTorch and MONAI."""
