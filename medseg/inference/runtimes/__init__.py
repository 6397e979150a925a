"""What runs a network over its windows: PyTorch and other runtimes, and what makes them quick."""
