"""What a network says of images, and what that is worth: logits, predictions, the validation part of a row."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from trainable import metrics, objectives
from trainable.config import TrialConfig
from trainable.images.trial import TrialImages
from trainable.objectives import Objective
from trainable.parts.augmentation import normalise
from trainable.parts.losses import log_trained_prior
from trainable.precision import autocast
from trainable.report import Row

EVALUATION_BATCH = 500  # images
LARGEST_OF_BATCH = 96  # pixels of a side; of larger images fewer make a batch, or it would take gigabytes


def evaluation_batch(image_size: int) -> int:
    """How many images are evaluated at a time."""
    return max(1, EVALUATION_BATCH * LARGEST_OF_BATCH**2 // max(image_size, LARGEST_OF_BATCH) ** 2)


@torch.inference_mode()
def evaluate(
    model: nn.Module, images: TrialImages, positions: torch.Tensor, precision: str = "float32"
) -> torch.Tensor:
    """Logits of the images at ``positions`` (unaugmented), float32 (len(positions), num_classes).

    ``precision`` is that of the layers before the last.
    """
    model.eval()
    with autocast(precision, images.pixels.device):
        logits = [
            model(normalise(images.pixels[chunk, :-1], images.image_size, images.mean, images.std))
            for chunk in positions.to(images.pixels.device).split(evaluation_batch(images.image_size))
        ]
    return torch.cat(logits)


def predict(logits: torch.Tensor, images: TrialImages, config: TrialConfig, epoch: int) -> torch.Tensor:
    """The predicted classes, (2, n) on the CPU: row 0 by the network's logits, row 1 after post-hoc logit adjustment.

    ``epoch`` (from 1) is that after which the network gave the logits. The trial's objective decides.

    uint8, or int16 where there are more classes than that holds: they are kept for every epoch.
    """
    objective = objectives.named(config.objective)
    both = (logits, _adjusted(logits, images, config, epoch))
    found = torch.from_numpy(np.stack([objective.decide(values.float().cpu().numpy()) for values in both]))
    return found.to(torch.uint8 if images.num_classes <= 256 else torch.int16)


def likelihoods(logits: torch.Tensor, images: TrialImages, config: TrialConfig, epoch: int) -> torch.Tensor:
    """How likely each minority class is, plain and after logit adjustment: log odds, float16 (2, n, K) on the CPU."""
    both = (logits, _adjusted(logits, images, config, epoch))
    found = [metrics.log_odds(values.float().cpu().numpy(), images.minority) for values in both]
    return torch.from_numpy(np.stack(found)).half()


def score(
    logits: torch.Tensor, predictions: torch.Tensor, judged: torch.Tensor, images: TrialImages, objective: Objective
) -> Row:
    """The validation part of a row, from the logits of the validation images and what ``predict`` makes of them.

    ``judged`` are what the objective looks at: the predictions, or the ``likelihoods``.
    """
    labels = images.labels[images.val]
    plain, after = (
        objective.score(labels.numpy(), values, images.num_classes, images.minority) for values in judged.numpy()
    )
    confusion, adjusted = (
        metrics.confusion_matrix(labels.numpy(), row, images.num_classes) for row in predictions.numpy()
    )
    f1 = metrics.f1_per_class(confusion)
    return {
        "val_loss": functional.cross_entropy(logits.cpu().double(), labels).item(),
        "val_accuracy": float(np.trace(confusion) / confusion.sum()),
        "minority_f1": metrics.minority_f1(confusion, images.minority),
        "macro_f1": float(f1.mean()),
        "f1": f1.tolist(),
        "minority_f1_adjusted": metrics.minority_f1(adjusted, images.minority),
        objective.adjusted: after,
        objective.name: after if objective.is_adjusted else plain,
    }


def _adjusted(logits: torch.Tensor, images: TrialImages, config: TrialConfig, epoch: int) -> torch.Tensor:
    """``adjusted_logits``; of the mean logits of several networks, which is the mean of theirs."""
    parts = [adjusted_logits(logits, part.train_counts, config, epoch) for part in images.parts]
    return torch.stack(parts).mean(0)


def adjusted_logits(logits: torch.Tensor, class_counts: torch.Tensor, config: TrialConfig, epoch: int) -> torch.Tensor:
    """Logits after post-hoc adjustment to balanced classes: logits - log(prior), tau = 1.

    Menon et al. 2021, "Long-tail learning via logit adjustment", eq. 9. The prior is the one that
    the network was trained under in ``epoch``, see ``log_trained_prior``. Under the fully weighted sampler it is
    uniform and nothing changes; subtracting the raw counts there would correct the same thing twice.
    """
    return logits - log_trained_prior(config, class_counts, epoch).to(logits)
