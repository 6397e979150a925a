"""From files on disk to arrays with a known grid, and back."""
