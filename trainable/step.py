"""The training step: forward and backward of a batch, and the optimizer's update; on a GPU each is a CUDA graph.

Nothing here waits for the device: losses and hits add up there until ``totals`` is asked for.
"""

import weakref
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from trainable.config import TrialConfig
from trainable.parts.augmentation import Augment
from trainable.parts.heads import train_all, train_head_alone
from trainable.parts.losses import Loss
from trainable.parts.mixing import CutMix, Mixup
from trainable.parts.samplers import freezes_body
from trainable.precision import autocast

NUM_WARM_UP_CALLS = 3  # trained on for real; in them the libraries allocate what they may not inside a capture

Work = Callable[..., None]  # from tensors, with effects on tensors


class Step:
    """Trains a model batch by batch, and updates it after each group of batches."""

    def __init__(
        self,
        config: TrialConfig,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer | None,
        augment: Augment,
        mixing: Mixup | CutMix | None,
        loss: Loss,
        pixels: torch.Tensor,
    ) -> None:
        """``pixels`` is int32 (n, S * S + 1) as ``pool.pack`` makes it, on the device of the model, as is ``loss``.

        Without an optimizer it accumulates gradients and never updates.
        """
        self._config, self._model, self._optimizer = config, model, optimizer
        self._augment, self._mixing, self._loss, self._pixels = augment, mixing, loss, pixels
        self._loss_sum = torch.zeros((), device=pixels.device)
        self._num_correct = torch.zeros((), dtype=torch.int64, device=pixels.device)
        self._common_size = config.batch_size // config.num_micro_batches
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._is_frozen = False
        self._begin_phase()

    def _begin_phase(self) -> None:
        """What a graph has captured is for the parameters that were learning then."""
        # batches of another size, the last ones of an epoch, are not worth a graph of their own
        self._train_common_size = self._repeated(_without_hold(self._train_on))
        self.update = self._repeated(_without_hold(self._update))

    def start_epoch(self, epoch: int) -> None:
        """``epoch`` counts from 1."""
        is_frozen = freezes_body(self._config, epoch)
        if is_frozen:
            train_head_alone(self._model)
        else:
            train_all(self._model, self._trained)
        if is_frozen != self._is_frozen:
            self._is_frozen = is_frozen
            self._begin_phase()
        self._loss.start_epoch(epoch)
        self._loss_sum.zero_()
        self._num_correct.zero_()

    def draw(self, num_images: int, generator: torch.Generator) -> torch.Tensor:
        """The dice of the augmentation and, after them, of the mixing: float32 (num_images, dice), on the CPU."""
        dice = self._augment.draw(num_images, generator)
        return dice if self._mixing is None else torch.cat([dice, self._mixing.draw(num_images, generator)], 1)

    def accumulate(self, positions: torch.Tensor, dice: torch.Tensor, labels: torch.Tensor, group_size: int) -> None:
        """Adds the gradient of the loss of one batch, each image weighing ``1 / group_size``.

        All are on the device of the pixels: ``positions`` among them and ``labels``, int64 (batch,), and ``dice`` from
        ``draw``, float32 (batch, dice). Where ``num_micro_batches`` is above 1 the batch goes through the
        network in so many parts; the gradient is the same but for batch norm, which sees each part by itself.
        """
        weight = torch.full((), 1 / group_size, dtype=torch.float64, device=self._pixels.device)
        num_parts = max(1, min(self._config.num_micro_batches, len(positions) // 2))  # batch norm needs two images
        for part in zip(*(tensor.tensor_split(num_parts) for tensor in (positions, dice, labels)), strict=True):
            train_on: Work = self._train_common_size if len(part[0]) == self._common_size else self._train_on
            train_on(*part, weight)

    def totals(self) -> tuple[float, int]:
        """(sum of the losses, number of correct predictions) of the epoch so far; waits for the device."""
        return self._loss_sum.item(), int(self._num_correct.item())

    def _repeated(self, work: Work) -> Work:
        return repeated(work, self._pixels.device)

    def _train_on(
        self, positions: torch.Tensor, dice: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor
    ) -> None:
        images, targets = self._mixed(self._pixels[positions], dice, labels)
        with autocast(self._config.precision, images.device):
            logits = self._model(images)  # float32 in either precision
        loss = self._loss(logits, targets, reduction="sum")
        (loss * weight).backward()
        self._loss_sum += loss.detach()
        self._num_correct += (logits.argmax(1) == labels).sum()

    def _mixed(
        self, pixels: torch.Tensor, dice: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The augmented images, and labels (batch,) or, where images are mixed, shares of the classes (batch, K)."""
        if self._mixing is None:
            return self._augment(pixels, dice), labels
        num_dice = self._mixing.num_dice
        images = self._augment(pixels, dice[:, :-num_dice])
        shares = functional.one_hot(labels, len(self._loss.weights)).float()
        return self._mixing(images, shares, dice[:, -num_dice:])

    def _update(self) -> None:
        assert self._optimizer is not None
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.clip_norm)
        self._optimizer.step()
        # a graph adds to the gradients where they lie; elsewhere the first ones of a group need not be added to zeros
        self._optimizer.zero_grad(set_to_none=not self._pixels.is_cuda)


def _without_hold(method: Work) -> Work:
    """``method``, without a reference to its object.

    The object keeps this one. In a circle of references both would outlive the trial, and the GPU's memory with them,
    until Python happens to look for circles.
    """
    reference = weakref.WeakMethod(method)

    def work(*inputs: torch.Tensor) -> None:
        own = reference()
        assert own is not None
        own(*inputs)

    return work


class Graphed:
    """``work`` captured after a few calls and replayed from then on, without a launch from Python for each kernel.

    Its tensors must have the same shapes in every call. See "Whole-network capture" in torch's notes on CUDA graphs.
    """

    def __init__(
        self,
        work: Work,
        warm_up: Callable[[Work, Sequence[torch.Tensor]], None],
        capture: Callable[[Work, Sequence[torch.Tensor]], Callable[[], object]],
    ) -> None:
        self._work, self._warm_up, self._capture = work, warm_up, capture
        self._num_calls = 0
        self._inputs: list[torch.Tensor] = []
        self._replay: Callable[[], object] | None = None

    def __call__(self, *inputs: torch.Tensor) -> None:
        self._num_calls += 1
        if self._num_calls <= NUM_WARM_UP_CALLS:
            self._warm_up(self._work, inputs)
            return
        if self._replay is None:
            self._inputs = [tensor.clone() for tensor in inputs]
            self._replay = self._capture(self._work, self._inputs)
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        self._replay()


def repeated(work: Work, device: torch.device) -> Work:
    """``work``, on a GPU as a graph."""
    return Graphed(work, _on_side_stream, _capture) if device.type == "cuda" else work


def _on_side_stream(work: Work, inputs: Sequence[torch.Tensor]) -> None:
    """Runs ``work`` off the default stream, which a capture must not depend on."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work(*inputs)
    torch.cuda.current_stream().wait_stream(stream)


def _capture(work: Work, inputs: Sequence[torch.Tensor]) -> Callable[[], object]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work(*inputs)
    return graph.replay
