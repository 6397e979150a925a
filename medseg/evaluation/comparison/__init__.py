"""Rows of runs beside each other: gathered, tested in pairs, written as text and page."""
