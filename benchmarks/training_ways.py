"""One training recipe in several ways: as medseg's bundles run it, and with the defaults of MONAI's parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medseg

if TYPE_CHECKING:
    from monai.bundle import ConfigParser
    from monai.engines import SupervisedTrainer

BUNDLE = "phantom_ct_segmentation"
SEED = 2026
_PLAIN_NETWORK = {"network": "$@network_def.to(@device)"}


@dataclass(frozen=True)
class Way:
    """One way.

    Args:
        build: From the bundle's configuration, with the changes below, to a trainer.
        changes: To the bundle's `train.json`.
    """

    build: Callable[[ConfigParser], SupervisedTrainer]
    changes: dict[str, Any]


def _as_shipped(parser: ConfigParser) -> SupervisedTrainer:
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("network")
    return parser.get_parsed_content("train::trainer")


def _stock(parser: ConfigParser) -> SupervisedTrainer:
    """The same cases, transforms, network, loss and scores; all else as MONAI and PyTorch have it by default."""
    import torch
    from monai.data import CacheDataset, DataLoader
    from monai.engines import SupervisedTrainer
    from monai.handlers import MeanDice, MeanIoUHandler, from_engine
    from monai.transforms import AsDiscreted, Compose
    from monai.utils import set_determinism

    from medseg.training.handlers import VoxelAccuracy

    set_determinism(SEED)
    given = {key: parser.get_parsed_content(key) for key in ("network", "loss", "device", "batch_size", "num_workers")}
    cases, chain = (parser.get_parsed_content(f"train::{key}") for key in ("dataset::data", "preprocessing"))
    dataset, classes = CacheDataset(cases, chain, progress=False), parser.get("network_def::out_channels")
    # Drawn up as in the bundle, so that both train on the same batches.
    loader = DataLoader(
        dataset, num_workers=given["num_workers"], batch_size=given["batch_size"], shuffle=True, drop_last=True
    )
    pairs = from_engine(["pred", "label"])
    return SupervisedTrainer(
        device=given["device"],
        max_epochs=parser.get("epochs"),
        train_data_loader=loader,
        network=given["network"],
        optimizer=torch.optim.AdamW(
            given["network"].parameters(), parser.get("learning_rate"), weight_decay=parser.get("weight_decay")
        ),
        loss_function=given["loss"],
        postprocessing=Compose(
            [AsDiscreted("pred", argmax=True, to_onehot=classes), AsDiscreted("label", to_onehot=classes)]
        ),
        key_train_metric={"train_mean_dice": MeanDice(include_background=False, output_transform=pairs)},
        additional_metrics={
            "train_mean_iou": MeanIoUHandler(include_background=False, output_transform=pairs),
            "train_accuracy": VoxelAccuracy(output_transform=pairs),
        },
    )


WAYS = {
    "MONAI, stock": Way(_stock, _PLAIN_NETWORK),
    "MONAI, 2 workers": Way(_stock, {**_PLAIN_NETWORK, "num_workers": 2}),
    "medseg": Way(_as_shipped, {}),
    "medseg, nothing ahead": Way(_as_shipped, {"train::dataloader::ahead": 0}),
    "medseg, amp": Way(_as_shipped, {"amp": True}),
}


def built(way: str, data: Path, epochs: int) -> SupervisedTrainer:
    """A trainer on all cases of a data set, without validation; each epoch draws from its own seed."""
    from ignite.engine import Events
    from monai.bundle import ConfigParser
    from monai.utils import set_determinism

    root = Path(medseg.__file__).parents[1] / "bundles" / BUNDLE
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "train.json"))
    alone = {"bundle_root": str(root), "dataset_dir": str(data), "split_file": None, "fractions": [0.8, 0.1, 0.1]}
    common = {"epochs": epochs, "seed": SEED, "amp": False, "train::handlers": []}
    parser.update({**alone, **common, **WAYS[way].changes})
    trainer = WAYS[way].build(parser)

    def seed_epoch() -> None:
        set_determinism(SEED + trainer.state.epoch)
        trainer.data_loader.dataset.transform.set_random_state(SEED + trainer.state.epoch)

    trainer.add_event_handler(Events.EPOCH_STARTED, seed_epoch)
    return trainer
