"""Trained networks beside each other: runs gathered into rows, tested in pairs, written as text, files and page."""
