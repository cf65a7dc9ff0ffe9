"""How the batches of a step are divided among processes."""

import torch

from worker.engine.ranks.team import Team


def shares(world: int, batches: int) -> list[list[tuple[list[int], bool, bool]]]:
    step = [[n] * (n + 1) for n in range(batches)]
    return [[(list(s.indices), s.counts, s.last) for s in Team(rank, world).share(step)] for rank in range(world)]


def test_every_batch_counts_once_and_all_processes_compute_as_many() -> None:
    for world in (1, 2, 3, 4):
        for batches in range(1, 9):
            ranks = shares(world, batches)
            assert len({len(rank) for rank in ranks}) == 1
            counted = [tuple(indices) for rank in ranks for indices, counts, _last in rank if counts]
            assert sorted(counted) == sorted(tuple([n] * (n + 1)) for n in range(batches))
            assert all(
                [last for _indices, _counts, last in rank] == [*[False] * (len(rank) - 1), True] for rank in ranks
            )


def test_a_process_without_a_batch_repeats_the_smallest_without_weight() -> None:
    assert shares(2, 3) == [[([0], True, False), ([2, 2, 2], True, True)], [([1, 1], True, False), ([0], False, True)]]


def test_a_single_process_computes_all_and_changes_nothing() -> None:
    team, model = Team(), torch.nn.Linear(2, 2)
    assert shares(1, 2) == [[([0], True, False), ([1, 1], True, True)]]
    assert team.wrap(model, ["0"], torch.device("cpu"), bf16=False) == (model, model)
    assert team.factor(counts=True) is None
    values = torch.ones(3)
    assert team.sum(values) is values and team.agree(True) and not team.agree(False)
