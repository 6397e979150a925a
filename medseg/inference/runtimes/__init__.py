"""What runs a network: PyTorch and other runtimes, chosen, made quick, and kept between runs."""
