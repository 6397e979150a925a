"""What a case takes in memory and time, and how it keeps to what it may take."""
