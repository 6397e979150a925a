"""Cases of a data set or of a heap of images: found by layout, description or list, with their masks and patients."""

from __future__ import annotations

from medseg.data.cases.case import Case, Dataset, Labels
from medseg.data.cases.descriptions import write_dataset
from medseg.data.cases.open_cases import datalist, narrow_to_series, open_dataset, open_images

__all__ = ["Case", "Dataset", "Labels", "datalist", "narrow_to_series", "open_dataset", "open_images", "write_dataset"]
