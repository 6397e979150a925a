"""From a bundle and images to masks."""
