"""From cases with reference masks to a bundle's weights."""
