"""The schedule of faults: a seed repeats it, and no kind of fault is left to chance."""

from chaos.faults import CUTS, KINDS, Action, schedule

CLIENTS = ("billing", "support")


def test_same_seed_repeats_the_schedule_and_another_does_not() -> None:
    assert schedule(seed=7, count=60, clients=CLIENTS) == schedule(
        seed=7, count=60, clients=CLIENTS
    )
    assert schedule(seed=7, count=60, clients=CLIENTS) != schedule(
        seed=8, count=60, clients=CLIENTS
    )


def test_thirty_faults_are_of_every_kind_and_hit_every_client() -> None:
    faults = schedule(seed=7, count=30, clients=CLIENTS)
    assert {fault.kind for fault in faults} == set(KINDS)
    for client in CLIENTS:
        assert any(fault.target.startswith(f"{client}-") for fault in faults)


def test_localstack_is_never_killed_but_cut_off() -> None:
    actions = {kind.action for kind in KINDS if kind.role == "LocalStack"}
    assert actions == {Action.STOP, *CUTS}
