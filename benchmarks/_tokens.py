"""A small language model in PyTorch, and the gradients of one batch of token sequences."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS, HIDDEN, VOCABULARY, LENGTH, BLOCKS = 64, 4, 256, 100, 8, 2
LAYER = "body.layers.0.linear1"  # of the first block's MLP


class LanguageModel(nn.Module):
    """Embeddings, blocks of attention and a GELU MLP as PyTorch ships them, and a prediction of the next token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.position = nn.Parameter(torch.randn(LENGTH, WIDTH) / 2)
        block = nn.TransformerEncoderLayer(
            WIDTH, HEADS, HIDDEN, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(block, BLOCKS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of the next token at every place, shape (sequences, length, vocabulary)."""
        return self.head(self.body(self.embedding(tokens) + self.position))


def tokens(sequences: int, dtype: torch.dtype, seed: int) -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    """A fresh model, the gradients of a batch, and the inputs of the attacked layer, one row a token.

    Args:
        sequences: how many; each has LENGTH tokens.
        dtype: of the model and its gradients.
        seed: of everything.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LanguageModel().to(dtype)
        batch = torch.randint(VOCABULARY, (sequences, LENGTH))
    seen: list[Tensor] = []
    handle = model.get_submodule(LAYER).register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    scores = model(batch)
    handle.remove()
    loss = F.cross_entropy(scores[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
    names = [name for name, _ in model.named_parameters()]
    gradients = dict(zip(names, torch.autograd.grad(loss, list(model.parameters())), strict=True))
    return model, gradients, seen[0].detach().flatten(0, 1)
