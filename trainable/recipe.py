"""The fields of a recipe: what a study compares and may search, each with its rule, its condition and its paper."""

from dataclasses import dataclass

from trainable.network_fields import Network
from trainable.options import Choices, Range, Switch, option


@dataclass(frozen=True)
class Recipe(Network):
    """How a network is trained, whatever its seeds and machine.

    The defaults are the recipe of the course this study grew out of. A field's condition names fields before it.
    """

    optimizer: str = option(
        "adam",
        Choices(("adam", "adamw", "sgd")),
        "adam, adamw, or sgd with Nesterov momentum 0.9",
        "optimizer",
        short="optim",
        paper="Kingma and Ba 2015; Loshchilov and Hutter 2019; Sutskever et al. 2013",
    )
    learning_rate: float = option(
        1e-3, Range(0, 1e30, above=True), "the step size, at its highest", "optimizer", short="rate", format=".1e"
    )
    weight_decay: float = option(
        1e-4,
        Range(0),
        "adam: L2 penalty; adamw: decoupled; sgd: L2; the last two spare norms and biases",
        "optimizer",
        short="decay",
        format=".0e",
    )
    batch_size: int = option(128, Range(2), "images in a batch", "optimizer", short="batch")
    accumulation_steps: int = option(
        2, Range(1), "batches whose gradients make one optimizer step", "optimizer", short="accum"
    )
    clip_norm: float = option(
        1.0, Range(0, above=True), "the gradient's norm is clipped to this", "optimizer", short="clip"
    )
    schedule: str = option(
        "constant",
        Choices(("constant", "cosine", "one_cycle", "step")),
        "learning rate over all epochs: cosine to 0, one_cycle up and down, or step: a tenth at 1/2 and again at 3/4",
        "optimizer",
        paper="Loshchilov and Hutter 2017; Smith 2018; He et al. 2016",
    )
    warmup_epochs: float = option(
        0.0,
        Range(0),
        "epochs in which the learning rate rises evenly at first",
        "optimizer",
        when={"schedule": ("constant", "cosine", "step")},
        short="warm",
        format=".1f",
        paper="Goyal et al. 2017",
    )
    average_decay: float = option(
        0.0,
        Range(0, 1, below=True),
        "judge a moving average of the weights, so much of it kept at each step; 0 = the weights themselves",
        "optimizer",
        short="ema",
        format=".4g",
        paper="Polyak and Juditsky 1992",
    )
    sampler: str = option(
        "shuffle",
        Choices(("shuffle", "weighted", "progressive", "undersample")),
        "how images are drawn: each once, rare classes more often, more and more so, or all cut to the smallest",
        "sampler",
        paper="Kang et al. 2020, section 3 (weighted, progressive); Buda et al. 2018 (undersample)",
    )
    sampler_power: float = option(
        1.0,
        Range(0, 1, above=True),
        "weighted sampler: class weight = count ** -power; 1 = equal classes",
        "sampler",
        when={"sampler": "weighted"},
        short="^",
        format=".2f",
        paper="Kang et al. 2020, eq. 1 (q = 1 - power)",
    )
    resample_from: float = option(
        0.0,
        Range(0, 1, below=True),
        "share of the epochs after which the sampler begins; shuffled before",
        "sampler",
        when={"sampler": ("weighted", "progressive", "undersample")},
        short="from",
        format=".2f",
        paper="Cao et al. 2019, section 3.3 (DRS)",
    )
    head_epochs: int = option(
        0,
        Range(0),
        "last epochs, in which a fresh last layer alone is trained, on equal classes; 0 = none",
        "sampler",
        short="head",
        paper="Kang et al. 2020, section 4 (cRT)",
    )
    loss: str = option(
        "cross_entropy",
        Choices(("cross_entropy", "focal", "balanced_softmax", "logit_adjusted", "ldam")),
        "what a wrong answer costs",
        "loss",
        paper="Lin et al. 2017; Ren et al. 2020; Menon et al. 2021; Cao et al. 2019",
    )
    focal_gamma: float = option(
        2.0,
        Range(0, 10),
        "focal loss: how much less an easy image counts; 0 = cross-entropy",
        "loss",
        when={"loss": "focal"},
        short="gamma",
        format=".2f",
        paper="Lin et al. 2017, section 3.2",
    )
    tau: float = option(
        1.0,
        Range(0, 10, above=True),
        "logit-adjusted loss: tau * log(class share) is added to the logits; 1 = balanced softmax",
        "loss",
        when={"loss": "logit_adjusted"},
        format=".2f",
        paper="Menon et al. 2021, eq. 10",
    )
    ldam_margin: float = option(
        0.5,
        Range(0, 1, above=True),
        "LDAM: the rarest class's margin, in units of the cosine",
        "loss",
        when={"loss": "ldam"},
        short="margin",
        format=".2f",
        paper="Cao et al. 2019, section 3.2",
    )
    ldam_scale: float = option(
        30.0,
        Range(1, 100),
        "LDAM: logits are this times the cosine of features and class vector",
        "loss",
        when={"loss": "ldam"},
        short="scale",
        format=".0f",
        paper="Cao et al. 2019 (30 in the authors' code, 10 in the text)",
    )
    label_smoothing: float = option(
        0.0,
        Range(0, 1, below=True),
        "this much of each target is shared out among all classes",
        "loss",
        short="smooth",
        format=".2f",
        paper="Szegedy et al. 2016, section 7",
    )
    class_weights: str = option(
        "none",
        Choices(("none", "inverse", "effective")),
        "losses weigh by class: count ** -power, or 1 / effective number of images",
        "loss",
        short="weights",
        paper="King and Zeng 2001 (inverse); Cui et al. 2019 (effective)",
    )
    class_weight_power: float = option(
        1.0,
        Range(0, 1, above=True),
        "inverse class weights: count ** -power; 1 = equal classes",
        "loss",
        when={"class_weights": "inverse"},
        short="^",
        format=".2f",
    )
    effective_beta: float = option(
        0.9999,
        Range(0, 1, above=True, below=True),
        "effective class weights: (N - 1) / N for N different images of a class in all; near 1 = inverse",
        "loss",
        when={"class_weights": "effective"},
        short="beta",
        format=".5g",
        paper="Cui et al. 2019, section 3.2",
    )
    reweight_from: float = option(
        0.0,
        Range(0, 1, below=True),
        "share of the epochs after which class weights begin; none before",
        "loss",
        when={"class_weights": ("inverse", "effective")},
        short="from",
        format=".2f",
        paper="Cao et al. 2019, section 3.3 (DRW)",
    )
    flip: bool = option(True, Switch(), "mirror half of the training images, left to right", "augmentation")
    rotation_degrees: float = option(
        10.0, Range(0, 180), "rotate by a random angle within ± this many degrees", "augmentation", short="rotate"
    )
    vertical_flip: bool = option(
        False,
        Switch(),
        "turn half of the training images upside down; for images without an upright",
        "augmentation",
        short="vflip",
    )
    crop_padding: float = option(
        0.0,
        Range(0, 0.5),
        "move by up to this share of the side, black comes in",
        "augmentation",
        short="crop",
        format=".3f",
        paper="He et al. 2016 (4 of 32 pixels = 0.125)",
    )
    random_augment: str = option(
        "none",
        Choices(("none", "trivial")),
        "trivial: one random operation of 14 at a random strength",
        "augmentation",
        short="random",
        paper="Müller and Hutter 2021 (TrivialAugment wide)",
    )
    color_jitter: float = option(
        0.0,
        Range(0, 1),
        "brightness, contrast and saturation, each by a random factor within 1 ± this",
        "augmentation",
        short="jitter",
        format=".2f",
    )
    erasing: str = option(
        "none",
        Choices(("none", "cutout", "random")),
        "erase a part: cutout, a square, or random, a box",
        "augmentation",
        short="erase",
        paper="DeVries and Taylor 2017; Zhong et al. 2020",
    )
    cutout_size: float = option(
        0.5,
        Range(0, 1, above=True),
        "side of the square, as a share of the image's",
        "augmentation",
        when={"erasing": "cutout"},
        short="size",
        format=".2f",
    )
    erasing_probability: float = option(
        0.5,
        Range(0, 1, above=True),
        "share of the images of which a box is erased",
        "augmentation",
        when={"erasing": "random"},
        short="p",
        format=".2f",
    )
    mixing: str = option(
        "none",
        Choices(("none", "mixup", "cutmix", "remix")),
        "mix two images and their targets: mixup, cutmix, or remix, whose target favours the rarer class",
        "augmentation",
        short="mix",
        paper="Zhang et al. 2018; Yun et al. 2019; Chou et al. 2020",
    )
    mixing_alpha: float = option(
        1.0,
        Range(0.01, 100),
        "the share of the first image is drawn from Beta(alpha, alpha)",
        "augmentation",
        when={"mixing": ("mixup", "cutmix", "remix")},
        short="alpha",
        format=".2f",
    )
    remix_kappa: float = option(
        3.0,
        Range(1),
        "remix: how many times as frequent the other class must be",
        "augmentation",
        when={"mixing": "remix"},
        short="kappa",
        format=".1f",
    )
    remix_tau: float = option(
        0.5,
        Range(0, 1),
        "remix: below which share the more frequent class leaves the target",
        "augmentation",
        when={"mixing": "remix"},
        short="tau",
        format=".2f",
    )
    patience: int = option(10, Range(1), "epochs without improvement before the trial ends itself", "length")
    min_delta: float = option(0.001, Range(0), "smallest fall of validation loss that counts", "length", short="delta")
