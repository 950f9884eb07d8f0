import os
import pickle
import resource
import signal

import pytest
import torch
from toys import Denoiser, Vectors, exit_codes, in_process, settings, train

from salticid.engine import checkpoint as checkpoints
from salticid.engine import microbatch
from salticid.errors import ConfigError, UserError


@pytest.mark.parametrize("local", [1, 2, 7, 8, 48, 256, 1000])
def test_the_largest_size_that_fits_is_found_in_few_trials(local):
    sizes = microbatch.candidates(local)
    assert sizes[0] == 1
    assert sizes[-1] == local
    for limit in [*range(1, local, max(1, local // 37)), local]:
        tried: list[int] = []

        def try_sizes(candidates, limit=limit, tried=tried):
            fitting = 0
            for size in candidates:
                tried.append(size)
                if size > limit:
                    break
                fitting = size
            return fitting

        assert microbatch.search(local, try_sizes) == max(s for s in sizes if s <= limit)
        assert len(tried) <= 2 * local.bit_length() + 2
        assert len(set(tried)) == len(tried)


def test_nothing_fits():
    with pytest.raises(ConfigError, match="not even one sample fits"):
        microbatch.search(8, lambda sizes: 0)


class Hungry(Denoiser):
    """Takes 300 MiB for each sample of a micro-batch."""

    def loss(self, phase, batch, clock):
        self.kept = None
        self.kept = torch.zeros(len(batch["id"]), 75, 2**20)
        return super().loss(phase, batch, clock)


class Doomed(Denoiser):
    """Is killed where a micro-batch has more than two samples."""

    def loss(self, phase, batch, clock):
        if len(batch["id"]) > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(phase, batch, clock)


class Broken(Denoiser):
    def loss(self, phase, batch, clock):
        raise ValueError("broken on purpose")


def find(recipe):
    return microbatch.find(recipe, Vectors(), settings(micro_batch="auto"), torch.device("cpu"), 1)


@pytest.mark.slow
def test_trials_fail_by_themselves(tmp_path):
    """Of 1, 2, 3, 4 and 8 samples, four fit beside torch's own 0.8 GiB, and the failures cost this process nothing."""

    def run():
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (int(2.6 * 2**30), hard))
        assert find(Hungry()) == 4
        assert find(Doomed()) == 2
        with pytest.raises(UserError, match="ValueError: broken on purpose"):
            find(Broken())

    assert exit_codes([in_process(run)]) == [0]


def test_what_was_found_is_kept(tmp_path, monkeypatch):
    """By the directory, and by the checkpoint, so that a resumed run adds up its gradients in the same order."""
    monkeypatch.setattr(microbatch, "find", lambda *arguments: 3)
    train(tmp_path, Denoiser(trouble={6: "SIGTERM"}), micro_batch="auto")
    assert microbatch.recall(tmp_path) == 3
    monkeypatch.setattr(microbatch, "find", lambda *arguments: pytest.fail("is known"))
    (tmp_path / "micro_batch.json").write_text('{"micro_batch": 8}')
    train(tmp_path, micro_batch="auto", resume=True)
    progress = checkpoints.read_manifest(tmp_path / "checkpoints/step-00000020")["progress"]
    assert progress["micro_batch"] == 3


def test_weights_are_not_sent():
    recipe = Denoiser()
    recipe.up = torch.nn.Linear(1000, 1000)
    sent = microbatch._without_weights(recipe)
    assert len(sent) < 20_000
    received = pickle.loads(sent)
    assert received.up.weight.shape == (1000, 1000)
    assert [p.requires_grad for p in received.parameters()] == [p.requires_grad for p in recipe.parameters()]
    assert torch.equal(received.seen, recipe.seen)


def test_what_cannot_be_sent_is_named():
    recipe = Denoiser()
    recipe.loss = lambda *arguments: None
    with pytest.raises(ConfigError, match="give a number"):
        find(recipe)


def test_free_memory():
    assert microbatch.free_memory() > 2**20
