"""DICOM in and out; the only rooms where LPS and tags are spoken of."""
