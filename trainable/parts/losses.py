"""What a wrong answer costs: the losses of the toolbox, and the class weights that go with any of them.

A loss is defined for an image of class c: l_c(z), a function of its logits z. Weights, soft targets and smoothing then
mean the same for all losses. With a target q that shares an image out among classes (mixup, CutMix), weights w and
smoothing e over K classes the image costs

    sum over c of q'_c w_c l_c(z),  where q' = (1 - e) q + e / K

that is the expected loss if the label were drawn from q'. For cross-entropy this is PyTorch's own definition of
probabilities as targets, ``weight`` and ``label_smoothing`` (Szegedy et al. 2016, section 7); for the others the papers
define l_c alone.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainable.parts.samplers import has_begun, shares


class Loss(nn.Module):
    """Logits (B, K), bfloat16 or wider, and targets to the loss of each image, float32 (float64 for such logits).

    Targets are labels, int64 (B,), or shares of the classes, float (B, K), each row summing to 1. Buffers are
    overwritten in place between epochs: a CUDA graph that captured them goes on with what is in them.
    """

    weights: torch.Tensor  # float32 (K,): of each class, in this epoch

    def __init__(self, config: Any, counts: torch.Tensor) -> None:
        """``counts`` are the training images of each class, int64 (K,) on the CPU, each at least 1."""
        super().__init__()
        self._config, self._counts = config, counts
        self.register_buffer("weights", torch.ones(len(counts)))
        self.start_epoch(1)

    def start_epoch(self, epoch: int) -> None:
        """Brings the class weights to what they are in ``epoch`` (from 1)."""
        self.weights.copy_(class_weights(self._config, self._counts, epoch))

    def log_scores(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, K) to (B, K): minus what each image would cost if it was of each class, -l_c(z)."""
        raise NotImplementedError

    def forward(self, logits: torch.Tensor, targets: torch.Tensor, reduction: str = "none") -> torch.Tensor:
        """The loss of each image, (B,), or with ``reduction="sum"`` their sum.

        Labels and no smoothing need no matrix of targets, and are summed as ``functional.cross_entropy`` sums: adding
        up the (B,) losses afterwards gives other last bits.
        """
        log_scores = self.log_scores(logits.to(torch.promote_types(logits.dtype, torch.float32)))
        smoothing, num_classes = self._config.label_smoothing, logits.shape[1]
        if not targets.is_floating_point():
            if smoothing == 0:
                return functional.nll_loss(log_scores, targets, self.weights.to(log_scores), reduction=reduction)
            targets = functional.one_hot(targets, num_classes)
        targets = (1 - smoothing) * targets.to(log_scores) + smoothing / num_classes
        losses = -(targets * self.weights * log_scores).sum(1)
        return losses.sum() if reduction == "sum" else losses


class CrossEntropy(Loss):
    """l_c(z) = -log p_c, with p the softmax of z."""

    def log_scores(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.log_softmax(1)


class Focal(Loss):
    """l_c(z) = -(1 - p_c)^gamma log p_c: Lin et al. 2017, "Focal Loss for Dense Object Detection", section 3.2, eq. 4.

    Theirs is binary, a sigmoid for each class; with the softmax it is the form that long-tailed work compares with (Cui
    et al. 2019, section 4; Cao et al. 2019, section 4). Their alpha (eq. 5) is what class weights are here.
    """

    def log_scores(self, logits: torch.Tensor) -> torch.Tensor:
        log_p = logits.log_softmax(1)
        # not 0: the slope of x ** 0.5 is infinite there, and infinity times log 1 is not a number
        miss = (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).tiny)
        return miss.pow(self._config.focal_gamma) * log_p


class LogitAdjusted(Loss):
    """l_c(z) = -log softmax(z + tau log pi)_c, pi the classes' shares of the training images.

    Menon et al. 2021, "Long-tail learning via logit adjustment", section 5.1, eq. 10. Balanced softmax (Ren et al.
    2020, "Balanced Meta-Softmax", section 3.1, eq. 3 and 4) is tau = 1: its counts for pi add a constant to all
    logits, which a softmax does not see. Both take the raw shares, whatever the sampler draws: see ``corrects_twice``.
    """

    shift: torch.Tensor  # float32 (K,)

    def __init__(self, config: Any, counts: torch.Tensor) -> None:
        super().__init__(config, counts)
        self.register_buffer("shift", logit_shift(config, counts).float())

    def log_scores(self, logits: torch.Tensor) -> torch.Tensor:
        return (logits + self.shift).log_softmax(1)


class LDAM(Loss):
    """l_c(z) = -log softmax(z - D_c at c)_c: class c must win by a margin D_c, in proportion to n_c^(-1/4).

    Cao et al. 2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", section 3.2, eq. 12 and
    13. A margin means something only where logits cannot grow at will, so the paper normalises features and class
    vectors: the network must end in ``heads.CosineLinear``, whose logits are scale * cos. There margins are
    ``ldam_margin`` (of the rarest class) in units of the cosine, so ``scale`` times that here. Scale 30 and margin 0.5
    are those of the authors' code, the paper's text has scale 10.

    With z_c - D_c against the sum over the others this is a sigmoid's loss. For the likeliest class that sum is taken
    over the others themselves: 1 - p_c has no digits left there, and the margin is all that the loss then sees.
    """

    margins: torch.Tensor  # float32 (K,)

    def __init__(self, config: Any, counts: torch.Tensor) -> None:
        super().__init__(config, counts)
        self.register_buffer("margins", ldam_margins(config, counts).float())

    def log_scores(self, logits: torch.Tensor) -> torch.Tensor:
        top = functional.one_hot(logits.argmax(1), logits.shape[1]).bool()
        beside_top = logits.masked_fill(top, -math.inf).logsumexp(1, keepdim=True)
        beside_other = logits.logsumexp(1, keepdim=True) + torch.log1p(-logits.softmax(1).masked_fill(top, 0))
        rest = torch.where(top, beside_top, beside_other)  # (B, K): log of the sum over all classes but c
        return functional.logsigmoid(logits - self.margins - rest)


LOSSES: dict[str, Callable[[Any, torch.Tensor], Loss]] = {
    "cross_entropy": CrossEntropy,
    "focal": Focal,
    "balanced_softmax": LogitAdjusted,
    "logit_adjusted": LogitAdjusted,
    "ldam": LDAM,
}


def ldam_margins(config: Any, counts: torch.Tensor) -> torch.Tensor:
    """Margins in units of the logits, float64 (K,): n_c^(-1/4), the largest being ``ldam_margin * ldam_scale``."""
    margins = counts.double().pow(-0.25)
    return config.ldam_scale * config.ldam_margin * margins / margins.max()


def logit_shift(config: Any, counts: torch.Tensor) -> torch.Tensor:
    """What the loss adds to the logits while training: tau log pi, float64 (K,); 0 where it adds nothing."""
    tau = {"balanced_softmax": 1.0, "logit_adjusted": config.tau}.get(config.loss, 0.0)
    return tau * (counts.double() / counts.sum()).log()


def _inverse(config: Any, counts: torch.Tensor) -> torch.Tensor:
    """n_c ** -power; power 1 is scikit-learn's "balanced" (King and Zeng 2001)."""
    return counts.pow(-config.class_weight_power)


def _effective(config: Any, counts: torch.Tensor) -> torch.Tensor:
    """(1 - beta) / (1 - beta ** n_c), one over the effective number of images.

    Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples", section 3.2, proposition 1, and section
    4; beta = (N - 1) / N for N different images of a class in all, 0.9999 as in Cao et al. 2019, section 4.
    """
    return -(1 - config.effective_beta) / torch.expm1(counts * math.log(config.effective_beta))


CLASS_WEIGHTS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "none": lambda config, counts: torch.ones_like(counts),
    "inverse": _inverse,
    "effective": _effective,
}


def class_weights(config: Any, counts: torch.Tensor, epoch: int) -> torch.Tensor:
    """The weight of each class's losses in ``epoch`` (from 1), float64 (K,); ones until they begin.

    The mean weight of a training image is 1, so that weights change what is learned, not how large the steps are. The
    papers get there by dividing a batch's loss by the sum of its weights (PyTorch's weighted mean); this is the same
    but for that sum's noise. With Cui's sum of K instead, nearly all images of a long tail would weigh far under 1.
    """
    counts = counts.double()
    if not has_begun(config.reweight_from, epoch, config.epochs):
        return torch.ones_like(counts)
    weights = CLASS_WEIGHTS[config.class_weights](config, counts)
    return weights * counts.sum() / (weights * counts).sum()


def log_trained_prior(config: Any, counts: torch.Tensor, epoch: int) -> torch.Tensor:
    """The log of the class prior that a network trained in ``epoch`` has in its logits, float64 (K,), up to a constant.

    The expected loss is least where softmax(z + shift)_c is in proportion to share_c weight_c p(x | c), so z holds
    log(share_c weight_c) - shift_c (Menon et al. 2021, sections 4.1 and 5.1). Subtracting it balances the classes, and
    subtracts nothing where training did so already. It is that of the epoch itself, not a mean over those before: the
    last layer follows a change of sampler or weights within an epoch or so. Exact for cross-entropy and its shifted
    forms alone: focal loss and LDAM do not estimate probabilities.
    """
    weights = class_weights(config, counts, epoch)
    return shares(config, counts, epoch).log() + weights.log() - logit_shift(config, counts)
