"""The data-set doctor: what is wrong or odd with images, masks and how they are divided, all of it at once."""
