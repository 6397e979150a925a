"""What the storage classes of DICOM hold, as far as it matters here (PS3.4, B.5)."""

from __future__ import annotations

NOT_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "label map segmentation",
    "1.2.840.10008.5.1.4.1.1.481.2": "radiotherapy dose",
    "1.2.840.10008.5.1.4.1.1.30": "parametric map",
}
"""Storage classes that have rows and columns but are no acquired image."""

KINDS = (
    ("1.2.840.10008.5.1.4.1.1.66.4", "SEG"),
    ("1.2.840.10008.5.1.4.1.1.66.7", "SEG"),
    ("1.2.840.10008.5.1.4.1.1.66.", "registration or surface"),
    ("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE"),
    ("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT"),
    ("1.2.840.10008.5.1.4.1.1.481.5", "RTPLAN"),
    ("1.2.840.10008.5.1.4.1.1.481.", "radiotherapy"),
    ("1.2.840.10008.5.1.4.1.1.30", "parametric map"),
    ("1.2.840.10008.5.1.4.1.1.88.59", "key objects"),
    ("1.2.840.10008.5.1.4.1.1.88.", "SR"),
    ("1.2.840.10008.5.1.4.1.1.104.1", "PDF"),
    ("1.2.840.10008.5.1.4.1.1.104.", "document"),
    ("1.2.840.10008.5.1.4.1.1.11.", "presentation state"),
    ("1.2.840.10008.5.1.4.1.1.9.", "waveform"),
    ("1.2.840.10008.1.3.10", "DICOMDIR"),
)
"""What the storage classes that begin so hold; the first that fits counts."""


def kind_of(storage_class: str) -> str:
    """What files of a storage class hold, in a word; ``other`` where it is not in ``KINDS``.

    >>> kind_of("1.2.840.10008.5.1.4.1.1.481.3"), kind_of("1.2.3")
    ('RTSTRUCT', 'other')
    """
    return next((kind for start, kind in KINDS if storage_class.startswith(start)), "other")
