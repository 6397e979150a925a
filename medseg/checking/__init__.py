"""What is wrong or odd with a data set, all of it at once: images, masks, and how they are divided."""
