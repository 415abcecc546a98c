"""What a comparison across folders says about its pairs."""

from pathlib import Path

from helpers.made_results import made_results
from helpers.small import SMALL
from msgd.lab.experiment_folder.several import pool
from msgd.lab.report.several import pool_sentences


def said(**settings):
    text = settings.pop("text", SMALL)
    one, other = made_results(seeds=4), made_results(text, **{"seeds": 4, "seed": 1, **settings})
    return pool_sentences(pool([Path("a"), Path("b")], [one, other], None))


def naming(sentences, words):
    return [sentence.partition(" and a:sgd")[0] for sentence in sentences if words in sentence]


def test_equal_settings_need_no_warning():
    sentences = said(text=SMALL + '[methods.more]\nlaw = "bernoulli"\n')
    for words in ("not those of noise alone", "do not share their initial parameters", "own code", "different steps"):
        assert naming(sentences, words) == []
    assert "b:gd has the settings and the noise of a:gd, run for run, so it is left out." in sentences
    assert any("adjusted by Holm over all 3 comparisons" in sentence for sentence in sentences)


def test_what_the_pairs_do_not_share_is_said():
    all_of_b = "b:gd, b:sgd, b:bernoulli"
    assert naming(said(lr=0.5), "have different learning rates") == [all_of_b]
    assert naming(said(steps=90), "different numbers of steps") == [all_of_b]
    assert naming(said(momentum=0.5), "the optimizer or its schedule") == [all_of_b]
    assert naming(said(eval_every=20), "evaluated at different steps") == [all_of_b]
    for settings in ({"model": "conv-small"}, {"vary": ["noise"]}):
        [start] = naming(said(**settings), "do not share their initial parameters")
        assert start == f"The pairs of {all_of_b}"
    assert naming(said(**{"methods.gd.lr": 0.5}), "have different learning rates") == ["b:gd"]


def test_fewer_pairs_than_seeds_are_said():
    assert "The differences of b:gd, b:sgd, b:bernoulli are over the seeds that a:sgd has too." in said(seeds=6, lr=0.5)
    assert naming(said(lr=0.5), "are over the seeds") == []
