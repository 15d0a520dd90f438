"""PyTorch on the CPU, with its default threads; each case with oneDNN and without, whichever is faster.

Denormal numbers are flushed to zero, as JAX and TensorFlow do anyway: gradients that vanish over hundreds of steps are
such, and a processor takes many times as long over them. No `torch.compile`: on a CPU it needs a C++ compiler, and
unrolls `nn.LSTM` step by step.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from peers.workload import Classifier, Generation, Layer, Workload, fastest, repeat

torch.set_flush_denormal(True)  # before there are threads, which inherit it


def with_and_without_onednn(make: Callable[[], Workload]) -> Workload:
    """The faster one of a workload's two forms."""

    def form(enabled: bool) -> Workload:
        workload = make()

        def run(steps: int) -> tuple[float, float]:
            with torch.backends.mkldnn.flags(enabled=enabled):
                return workload.run(steps)

        return workload._replace(run=run, settings=f"oneDNN={enabled}")

    return fastest([form(True), form(False)])


class Model(nn.Module):
    """Embedding, LSTM, dense layer. `nn.LSTM` has no dropout for a single layer; that of the inputs is put before it,
    one mask for all steps, and there is none of the recurrent connections."""

    def __init__(self, case: Classifier) -> None:
        super().__init__()
        self.dropout = case.dropout
        self.embedding = nn.Embedding(case.vocabulary, case.embedding)
        self.lstm = nn.LSTM(case.embedding, case.units, batch_first=True)
        self.dense = nn.Linear(case.units, case.outputs)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        if self.dropout:
            x = x * nn.functional.dropout(torch.ones(x.shape[0], 1, x.shape[2]), self.dropout)
        _, (h, _) = self.lstm(x)
        return self.dense(h[0])


def classifier(case: Classifier) -> Workload:
    return with_and_without_onednn(lambda: make_classifier(case))


def make_classifier(case: Classifier) -> Workload:
    torch.manual_seed(0)
    model = Model(case)
    tokens, labels = map(torch.from_numpy, case.data())
    optimizers = {
        "adam": lambda: torch.optim.Adam(model.parameters(), case.learning_rate, eps=1e-7, fused=True),
        "rmsprop": lambda: torch.optim.RMSprop(model.parameters(), case.learning_rate, alpha=0.9, eps=1e-7),
    }
    optimizer = optimizers[case.optimizer]()
    targets = labels.float() if case.outputs == 1 else labels.long()

    def step() -> torch.Tensor:
        logits = model(tokens)
        if case.outputs == 1:
            loss = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], targets)
        else:
            loss = nn.functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return Workload(repeat(step, lambda loss: loss.item()), count(model), surplus=4 * case.units)


def layer(case: Layer) -> Workload:
    return with_and_without_onednn(lambda: make_layer(case))


def make_layer(case: Layer) -> Workload:
    torch.manual_seed(0)
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[case.cell]
    module = kind(case.inputs, case.units, batch_first=True, bidirectional=case.both_ways)
    x, weights = map(torch.from_numpy, case.data())
    # A bias of the inputs and one of the recurrent product, which for an LSTM are one as to what they can do.
    surplus = 4 * case.units * (2 if case.both_ways else 1) if case.cell == "lstm" else 0

    @torch.inference_mode()
    def forward() -> tuple[torch.Tensor, ...]:
        return module(x)[:1]

    def backward() -> tuple[torch.Tensor, ...]:
        loss = (module(x.requires_grad_())[0] * weights).sum()
        return torch.autograd.grad(loss, [x, *module.parameters()])

    def magnitude(result: tuple[torch.Tensor, ...]) -> float:
        return sum(part.abs().sum().item() for part in result)

    return Workload(repeat(backward if case.backward else forward, magnitude), count(module), surplus)


def generation(case: Generation) -> Workload:
    return with_and_without_onednn(lambda: make_generation(case))


def make_generation(case: Generation) -> Workload:
    """A loop in Python over single steps, which carries the state."""
    torch.manual_seed(0)
    embedding = nn.Embedding(case.vocabulary, case.embedding)
    lstm = nn.LSTM(case.embedding, case.units)
    dense = nn.Linear(case.units, case.vocabulary)
    with torch.inference_mode():
        prompt = torch.from_numpy(case.prompt()).repeat(case.streams, 1)
        y, state = lstm(embedding(prompt.T))
        logits = dense(y[-1])

    @torch.inference_mode()
    def step() -> Any:
        nonlocal state, logits
        token = torch.multinomial(torch.softmax(logits / case.temperature, dim=1), 1)  # [S, 1]
        y, state = lstm(embedding(token.T), state)
        logits = dense(y[0])
        return token

    parameters = count(embedding) + count(lstm) + count(dense)
    return Workload(repeat(step, lambda token: token.float().mean().item()), parameters, surplus=4 * case.units)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
