"""A network's passes: devices, runtimes, and what makes them quick."""
