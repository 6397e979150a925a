"""What the demonstration shows: synthetic chests scanned, segmented, scored and drawn on a page."""
