"""What lies where in the folder of an end-to-end model.

Layout of the folder::

    finetune.json                     what is trained, on which slides; written first
    member_0_resnet18/checkpoint.pt   while the member is being trained
    member_0_resnet18/history.json    loss and score of every epoch
    member_0_resnet18/backbone.pth    the trunk alone, for `featurize --weights`
    member_0_resnet18/model.pt        the network; written last, so it means the member is done
    curves.png
    alignment.csv                     where a table moved the spots
"""

from __future__ import annotations

from pathlib import Path

IDENTITY = "finetune.json"
MODEL = "model.pt"
BACKBONE = "backbone.pth"
HISTORY = "history.json"
CURVES = "curves.png"
ALIGNMENT = "alignment.csv"


def is_ensemble(folder: str | Path) -> bool:
    """Whether `folder` was written by `finetune`."""
    return (Path(folder) / IDENTITY).is_file()
