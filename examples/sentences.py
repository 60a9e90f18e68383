"""Private sentences, word by word, from the gradient of a small GPT whose embeddings are trained as well.

The client takes one step of training on a few sentences and sends the gradient of every parameter. The server knows
the model, the vocabulary and how many words the client had, by which federated averaging weighs clients. Then

1. rows of the embedding's gradient that are not zero tell which words occur, in no order;
2. `spear_core.invert` gives the inputs of the first block's MLP, one row a word, each with a certificate;
3. attention looks back only, so a row depends on its word and those before it: from the first word on, a word is
   accepted if the beginning that it ends gives one of these rows to rounding.

Last, the server computes the gradient of the sentences found: it must be the one that was sent.

Sentences that begin alike share rows, so that these are fewer than words. Then pass no number of words: each row is
certified to be a word's or a mean of several's, and the word that gives it settles which.

    python examples/sentences.py
"""

import pydoc_data.topics
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spear_core
from spear_core.certificate.record import Claim

# how novels of Austen, Tolstoy and Melville begin
PRIVATE = (
    "it is a truth universally acknowledged that a single man in possession of a good fortune must be in want of a "
    "wife",
    "happy families are all alike every unhappy family is unhappy in its own way",
    "call me ishmael some years ago never mind how long precisely having little or no money in my purse",
)
VOCABULARY, WIDTH, HEADS, HIDDEN, BLOCKS, LONGEST = 3000, 128, 4, 512, 2, 32
LAYER = "blocks.layers.0.linear1"  # of the first block's MLP
END = 0  # the token that follows a sentence
ROUNDING = 1e-4  # relative distance up to which a row counts as reproduced; float32 leaves about 1e-6


class GPT(nn.Module):
    """Embeddings of words and places, blocks of attention that looks back and an MLP, scores of the next word."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LONGEST, WIDTH)
        block = nn.TransformerEncoderLayer(
            WIDTH, HEADS, HIDDEN, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, BLOCKS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of the next word at every place, shape (sentences, length, words)."""
        length = tokens.shape[1]
        ahead = torch.ones(length, length, dtype=torch.bool).triu(1)
        return self.head(self.blocks(self.words(tokens) + self.places.weight[:length], mask=ahead))


def vocabulary(texts: Sequence[str]) -> list[str]:
    """Words of the texts and the commonest of Python's own documentation, in alphabetical order after the end's."""
    words = set(" ".join(texts).split())
    common = Counter(re.findall("[a-z]+", " ".join(pydoc_data.topics.topics.values()).lower()))
    for word, _ in common.most_common():
        if len(words) < VOCABULARY - 1:
            words.add(word)
    return [".", *sorted(words)]


def gradients(model: nn.Module, sentences: Sequence[list[int]]) -> dict[str, Tensor]:
    """What a client sends: after every word the next one was to be predicted, after the last one the end."""
    losses = [
        F.cross_entropy(model(torch.tensor([tokens]))[0], torch.tensor([*tokens[1:], END]), reduction="sum")
        for tokens in sentences
    ]
    found = torch.autograd.grad(
        torch.stack(losses).sum() / sum(map(len, sentences)), list(model.parameters())
    )
    return dict(zip(dict(model.named_parameters()), found, strict=True))


def rows_of(model: GPT, tokens: Tensor) -> Tensor:
    """What the last word of each beginning gives before the first block's MLP, shape (beginnings, WIDTH)."""
    seen: list[Tensor] = []
    hook = model.get_submodule(LAYER).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0][:, -1])
    )
    with hook, torch.no_grad():
        model(tokens)
    return seen[0].double()


@dataclass(frozen=True)
class Outcome:
    """What the server found: rows, sentences of tokens, and how far their gradient is from the one sent, relative."""

    inversion: spear_core.Inversion
    sentences: list[list[int]]
    distance: float


def recover(model: GPT, sent: dict[str, Tensor], count: int | None) -> Outcome:
    """The sentences behind a gradient, of so many words if that is known."""
    inversion = spear_core.invert(model, sent, layer=LAYER, batch_size=count)
    proven = torch.tensor([claim is not Claim.NOTHING for claim in inversion.claims], dtype=torch.bool)
    rows = inversion.inputs[proven].double()
    occurring = sent["words.weight"].any(dim=1).nonzero()
    longest = int(sent["places.weight"].any(dim=1).sum())
    beginnings, sentences = torch.empty(1, 0, dtype=torch.int64), []
    while len(rows) and len(beginnings) and beginnings.shape[1] < longest:
        # each beginning that is right so far, with each word that occurs behind it
        behind = occurring.repeat(len(beginnings), 1)
        longer = torch.cat([beginnings.repeat_interleave(len(occurring), dim=0), behind], dim=1)
        reached = rows_of(model, longer)
        right = torch.cdist(reached, rows).amin(dim=1) < ROUNDING * reached.norm(dim=1)
        goes_on = right.view(len(beginnings), -1).any(dim=1)
        sentences += beginnings[~goes_on].tolist()
        beginnings = longer[right]
    sentences = [tokens for tokens in sentences + beginnings.tolist() if tokens]
    if not sentences:
        return Outcome(inversion, [], float("inf"))
    # what needs no truth to be checked: words that are missing, or too many, would change it
    flat = [
        torch.cat([grad.flatten() for grad in each.values()]) for each in (sent, gradients(model, sentences))
    ]
    return Outcome(inversion, sentences, float((flat[1] - flat[0]).norm() / flat[0].norm()))


def run(texts: Sequence[str] = PRIVATE, *, told: bool = True, seed: int = 0) -> tuple[Outcome, list[str]]:
    """A client's step and what the server makes of it, told the number of words or not; the sentences in words."""
    torch.manual_seed(seed)
    model, words = GPT(), vocabulary(texts)
    private = [[words.index(word) for word in text.split()] for text in texts]
    outcome = recover(model, gradients(model, private), sum(map(len, private)) if told else None)
    return outcome, [" ".join(words[token] for token in tokens) for tokens in outcome.sentences]


def main() -> int:
    """Print what came back beside the truth."""
    outcome, found = run()
    print(outcome.inversion)
    words = sum(map(len, outcome.sentences))
    certified = int(outcome.inversion.certified_rows.sum())
    print(f"{certified} rows are certified, {words} words found that give one of them each.")
    print(f"The gradient of these sentences differs from the one sent by {outcome.distance:.0e}, relative.\n")
    for text in PRIVATE:
        print(f"sent   {text}\nfound  {text if text in found else '–'}")
    for text in set(found) - set(PRIVATE):
        print(f"wrong  {text}")
    return int(sorted(found) != sorted(PRIVATE))


if __name__ == "__main__":
    sys.exit(main())
