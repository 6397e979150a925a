"""Bundles: building them from settings, and reading them without running their code."""
