"""From masks and reference masks to numbers, tables and pictures."""
