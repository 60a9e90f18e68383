"""Two real processes that search for one batch: one result, whatever happens to one of them."""

import os
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

import spear_core
from spear_core.study.metrics import compare
from tests.core.attacked import photos
from tests.core.zoo import seeded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available(), reason="torch without distributed"),
]
CASES = {  # b, m
    "consistency": (30, 100),
    "consistency, coupled": (34, 64),
    "halfspace": (12, 200),
    "sampling": (14, 200),
}
SURVIVOR, OTHER = 0, 1


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What the two processes have saved, by scenario and rank; one pair does it all, since starting takes long."""
    folder = tmp_path_factory.mktemp("group")
    context = multiprocessing.get_context("spawn")
    pair = [context.Process(target=one_of_two, args=(rank, str(folder)), daemon=True) for rank in (0, 1)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(150)
        assert process.exitcode is not None, "a process waits for ever"
    return {
        scenario.__name__: {
            rank: torch.load(path) for rank in (0, 1) if (path := file(folder, scenario, rank))
        }
        for scenario in SCENARIOS
    }


def one_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    for scenario in SCENARIOS:
        torch.save(scenario(rank), f"{folder}/{scenario.__name__}{rank}.pt")
    os._exit(0)  # the other process is dead by now, so there is nobody to take leave of


def file(folder, scenario, rank):
    path = folder / f"{scenario.__name__}{rank}.pt"
    return path if path.exists() else None


def invert(method, **options):
    case = photos(*CASES[method], seed=3)
    name = method.split(",")[0]
    found = spear_core.invert(case.model, case.gradients, method=name, generator=seeded(5), **options)
    return {
        "inputs": found.inputs,
        "labels": found.labels,
        "certified": found.certified,
        "draws": found.samples_drawn,
        "notes": found.notes,
        "method": found.method,
        "exact": int(compare(found.inputs, case.inputs).exact.sum()),
    }


# ---------------------------------------------------------------- what the processes do, the last one last
def every_method_twice(rank):
    return {method: [invert(method) for _ in range(2)] for method in CASES}


def different_generators(rank):
    case = photos(4, 100, seed=3)
    try:
        spear_core.invert(case.model, case.gradients, generator=seeded(rank))
    except ValueError as error:
        return str(error)


def one_is_short_of_time(rank):
    case = photos(24, 100, seed=3)
    began = time.monotonic()
    limit = 0.5 if rank == OTHER else 60.0
    found = spear_core.invert(
        case.model, case.gradients, method="sampling", generator=seeded(), time_limit=limit
    )
    return {"notes": found.notes, "seconds": time.monotonic() - began, "inputs": found.inputs}


def one_is_interrupted(rank):
    def interrupt(state):
        if rank == OTHER and state.samples_drawn:
            raise KeyboardInterrupt

    return invert("sampling", progress=interrupt)


def one_dies(rank):
    return invert("sampling", progress=lambda state: rank == OTHER and os._exit(1))


SCENARIOS = (every_method_twice, different_generators, one_is_short_of_time, one_is_interrupted, one_dies)


# ---------------------------------------------------------------- what comes of it
@pytest.mark.parametrize("method", CASES)
def test_both_processes_return_the_whole_batch(results, method):
    mine, theirs = (results["every_method_twice"][rank][method][0] for rank in (0, 1))
    assert torch.equal(mine["inputs"], theirs["inputs"])
    assert mine["labels"].tolist() == theirs["labels"].tolist()
    assert mine["draws"] == theirs["draws"]
    assert mine["certified"] and theirs["certified"]
    assert mine["exact"] == len(mine["inputs"]) == CASES[method][0]
    assert mine["method"] == theirs["method"] == method.split(",")[0]
    assert mine["notes"] == theirs["notes"] == ()


@pytest.mark.parametrize("method", CASES)
def test_the_same_seed_and_group_give_the_same_result(results, method):
    first, again = results["every_method_twice"][0][method]
    assert torch.equal(first["inputs"], again["inputs"])
    assert first["draws"] == again["draws"]


def test_different_generators_are_refused(results):
    for message in results["different_generators"].values():
        assert "the same seed in every process" in message


def test_the_time_of_one_is_the_time_of_all(results):
    by_rank = results["one_is_short_of_time"]
    assert torch.equal(by_rank[SURVIVOR]["inputs"], by_rank[OTHER]["inputs"])
    for result in by_rank.values():
        assert "stopped at the time limit" in result["notes"]
        assert result["seconds"] < 30


def test_interrupting_one_process_ends_the_search_with_what_is_found(results):
    by_rank = results["one_is_interrupted"]
    assert any("interrupted" in note for note in by_rank[SURVIVOR]["notes"])
    assert "interrupted" in by_rank[OTHER]["notes"]


def test_a_process_that_dies_leaves_the_other_with_the_batch(results):
    by_rank = results["one_dies"]
    assert set(by_rank) == {SURVIVOR}
    assert by_rank[SURVIVOR]["certified"]
    assert by_rank[SURVIVOR]["exact"] == CASES["sampling"][0]
    assert any("lost" in note for note in by_rank[SURVIVOR]["notes"])
