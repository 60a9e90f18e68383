"""Sentences come back from the gradient of a GPT; what is not reproduced to rounding is no word."""

from dataclasses import replace

import pytest
import torch

import spear_core
from examples import sentences
from spear_core.certificate.record import Claim


def private(seed=0, texts=sentences.PRIVATE):
    """A model, what a client sends, its sentences as tokens."""
    torch.manual_seed(seed)
    model, words = sentences.GPT(), sentences.vocabulary(texts)
    tokens = [[words.index(word) for word in text.split()] for text in texts]
    return model, sentences.gradients(model, tokens), tokens


def test_all_come_back_and_are_printed_beside_the_truth(capsys):
    assert sentences.main() == 0
    printed = capsys.readouterr().out
    assert "56 of 56 samples, certified exact" in printed
    assert "56 rows are certified, 56 words found" in printed and "wrong" not in printed
    for text in sentences.PRIVATE:
        assert f"sent   {text}\nfound  {text}\n" in printed


def test_a_wrong_sentence_is_told_and_not_called_a_success(capsys, monkeypatch):
    outcome, found = sentences.run()
    monkeypatch.setattr(sentences, "run", lambda: (outcome, [*found[:-1], "call me anything"]))
    assert sentences.main() == 1
    printed = capsys.readouterr().out
    assert "found  –" in printed and "wrong  call me anything" in printed


def test_sentences_that_begin_alike_where_the_number_of_words_is_not_told():
    texts = (
        "it was the best of times it was the worst of times",
        "it was a bright cold day in april",
        "it is a far far better thing that i do than i have ever done",
    )
    outcome, found = sentences.run(texts, told=False)
    assert sorted(found) == sorted(texts) and outcome.distance < 1e-5
    shared = len(["it", "it", "was"])  # beginnings that two sentences share with one before
    assert set(outcome.inversion.claims) == {Claim.MEAN}
    assert len(outcome.inversion.claims) == sum(len(text.split()) for text in texts) - shared


@pytest.mark.parametrize("seed", [1, 2])
def test_right_words_give_their_row_to_rounding_and_wrong_ones_are_far_from_any(seed):
    model, sent, tokens = private(seed)
    rows = spear_core.invert(model, sent, layer=sentences.LAYER, batch_size=56).inputs.double()
    occurring = sent["words.weight"].any(dim=1).nonzero()
    assert set(occurring.flatten().tolist()) == {token for each in tokens for token in each}
    for each in tokens:
        for place, token in enumerate(each):
            beginning = torch.tensor([each[:place]], dtype=torch.int64).repeat(len(occurring), 1)
            reached = sentences.rows_of(model, torch.cat([beginning, occurring], dim=1))
            misfit = torch.cdist(reached, rows).amin(dim=1) / reached.norm(dim=1)
            right = occurring.flatten() == token
            assert misfit[right] < sentences.ROUNDING / 10
            # but for beginnings of other sentences
            wrong = misfit[~right] if place else misfit.sort().values[len(tokens) :]
            assert wrong.min() > 100 * sentences.ROUNDING


def test_a_row_that_is_not_proven_ends_its_sentence_and_the_gradient_shows_it(monkeypatch):
    model, sent, tokens = private()
    found = spear_core.invert(model, sent, layer=sentences.LAYER, batch_size=56)
    lost = sentences.rows_of(model, torch.tensor([tokens[0][:6]]))
    row = int(torch.cdist(lost, found.inputs.double()).argmin())
    claims = tuple(Claim.NOTHING if at == row else claim for at, claim in enumerate(found.claims))
    monkeypatch.setattr(spear_core, "invert", lambda *_, **__: replace(found, claims=claims))
    outcome = sentences.recover(model, sent, 56)
    assert sorted(outcome.sentences) == sorted([tokens[0][:5], *tokens[1:]])
    assert outcome.distance > 0.1


def test_nothing_is_made_of_a_gradient_with_noise():
    model, sent, _ = private()
    generator = torch.Generator().manual_seed(0)
    noisy = {
        name: grad + grad.std() * torch.randn(grad.shape, generator=generator) for name, grad in sent.items()
    }
    noisy["words.weight"] = sent["words.weight"]  # which words occur is told even then
    outcome = sentences.recover(model, noisy, 56)
    assert outcome.sentences == [] and outcome.distance == float("inf")
