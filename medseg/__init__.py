"""Medical image segmentation with MONAI bundles: masks that can be trusted.

Every verb of the command line is a function of the same name here. Nothing heavy is
imported until one of them is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medseg.errors import MedsegError

if TYPE_CHECKING:
    from medseg.checking.check import check
    from medseg.demonstration.demo import demo
    from medseg.evaluation.evaluate import evaluate
    from medseg.inference.export import export
    from medseg.inference.predict import predict
    from medseg.training.compare import compare
    from medseg.training.train import train

__version__ = "0.1.0"
__all__ = ["MedsegError", "check", "compare", "demo", "evaluate", "export", "predict", "train"]

_VERBS = {
    "check": "medseg.checking.check",
    "compare": "medseg.training.compare",
    "demo": "medseg.demonstration.demo",
    "evaluate": "medseg.evaluation.evaluate",
    "export": "medseg.inference.export",
    "predict": "medseg.inference.predict",
    "train": "medseg.training.train",
}


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(import_module(_VERBS[name]), name)
    raise AttributeError(f"module 'medseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
