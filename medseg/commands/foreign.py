"""What libraries print of themselves and no user can act on: left out line by line, and nothing else with it."""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import dataclass

LINES = {
    "monai.data.nvimgcodec_pydicom_plugin": "skipping pydicom decoder plugin registration",
    "ignite.engine.engine.SupervisedTrainer": "run is terminating due to exception",
    "ignite.engine.engine.SupervisedEvaluator": "run is terminating due to exception",
}
"""By logger: part of the line. The exceptions that ignite tells of are told by us, with a code."""

WARNINGS = (
    "NvImgCodecPydicomReader: nvImageCodec decoder plugin did not register",
    "inverse has been called but no invertible transforms have been supplied",
)
"""How these begin: medseg reads DICOM itself; and a bundle whose preparation moves nothing has nothing to undo."""


DICOM_MODULES = r"pydicom(\.|$)"
"""Its warnings quote values of headers, identifiers among them; medseg checks itself what it uses of them."""


@dataclass(frozen=True)
class LeftOut:
    """Keeps one line of a logger back.

    Args:
        text: Part of the line.
    """

    text: str

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` is shown."""
        return self.text not in record.getMessage()


def hush_libraries() -> None:
    """Leave out ``LINES``, ``WARNINGS`` and what pydicom warns of from now on, in this process."""
    for name, text in LINES.items():
        logging.getLogger(name).addFilter(LeftOut(text))
    for text in WARNINGS:
        warnings.filterwarnings("ignore", message=re.escape(text))
    warnings.filterwarnings("ignore", category=UserWarning, module=DICOM_MODULES)
