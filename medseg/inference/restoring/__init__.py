"""Between a network's grid and an image's own: resampling along axes, and labels made slab by slab."""
