"""The fields of a recipe that say which network is trained, and from what it starts."""

from dataclasses import dataclass

from trainable.options import Choices, Range, option

TORCHVISION = "torchvision/"  # before the name of one of its classifiers


@dataclass(frozen=True)
class Network:
    """The first fields of a ``Recipe``."""

    network: str = option(
        "convnet",
        Choices(("convnet", "resnet32", "resnet18", "densenet_bc"), TORCHVISION + "[a-z0-9_]+", f"{TORCHVISION}NAME"),
        "the course's network, ResNets and DenseNet-BC-100-12 for small images, or any of torchvision's classifiers",
        "network",
        short="net",
        paper="He et al. 2016, section 4.2 and table 1; Huang et al. 2017, table 2",
    )
    width: float = option(
        1.0,
        Range(0.1, 4),
        "convnet: how many times as many channels and hidden features",
        "network",
        when={"network": "convnet"},
        short="×",
        format=".2f",
    )
    dropout: float = option(
        0.3,
        Range(0, 1, below=True),
        "dropout of both hidden layers, of the other networks before the last layer",
        "network",
        short="drop",
        format=".2f",
    )
    weights: str = option(
        "none",
        Choices(("none", "default"), r"[^\x00-\x1f\x7f\ud800-\udfff]+", "the path of a file"),
        "to start from: of a file (a state dict, or a trial's best.pt), or default, those that torchvision downloads",
        "network",
    )
    frozen_epochs: int = option(
        0,
        Range(0),
        "first epochs, in which the last layer alone is trained, on what the weights below it make of the images",
        "network",
        short="frozen",
        paper="Kumar et al. 2022 (LP-FT)",
    )
    backbone_rate: float = option(
        1.0,
        Range(0, 1, above=True),
        "the learning rate below the last layer, as a share of the last layer's",
        "network",
        short="below",
        format=".2g",
        paper="Howard and Ruder 2018, section 3.2 (discriminative fine-tuning)",
    )
