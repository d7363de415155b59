"""What must hold on the way from master to clients, with things being killed and cut off."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from composed import Container
from conftest import SOON_SECONDS, Api, System
from embedded.process import Process
from standstill import family, suspended
from usercast.testing import eventually

Arrives = Callable[..., None]


def test_every_kind_of_change_arrives(system: System, master: Api, arrives: Arrives) -> None:
    system.manage(
        "master",
        "shell",
        "-c",
        "from django.contrib.auth.models import Group; Group.objects.get_or_create(name='editors')",
    )
    user = master.create(email="a@example.org", groups=["editors"])
    arrives(user["id"], user)
    user = master.change(user["id"], username=f"renamed-{user['username']}", groups=[])
    arrives(user["id"], user)
    user = master.change(user["id"], is_active=False)
    arrives(user["id"], user)
    master.delete(user["id"])
    arrives(user["id"], None)


def test_bulk_write_arrives(system: System, clients: dict[str, Api]) -> None:
    system.manage(
        "master",
        "shell",
        "-c",
        "from usercast_master.accounts.models import User;"
        "User.objects.bulk_create([User(username=f'bulk-{i}') for i in range(700)])",
    )

    def found(client: Api) -> int:
        return client.http.get("/api/v1/users/", params={"search": "bulk-"}).json()["count"]

    for client in clients.values():
        eventually(lambda client=client: found(client) == 700, within=SOON_SECONDS)
    system.manage(
        "master",
        "shell",
        "-c",
        "from usercast_master.accounts.models import User;"
        "User.objects.filter(username__startswith='bulk-').delete()",
    )
    for client in clients.values():
        eventually(lambda client=client: found(client) == 0, within=SOON_SECONDS)


def test_rolled_back_transaction_sends_nothing(
    system: System, master: Api, clients: dict[str, Api], arrives: Arrives
) -> None:
    before = {
        name: client.http.get("/api/v1/live/state/").json()["cursor"]
        for name, client in clients.items()
    }
    system.manage(
        "master",
        "shell",
        "-c",
        "from django.db import transaction\n"
        "from usercast_master.accounts.models import User\n"
        "try:\n"
        "    with transaction.atomic():\n"
        "        User.objects.create(username='never')\n"
        "        raise KeyError\n"
        "except KeyError: pass",
    )
    user = master.create()
    arrives(user["id"], user)
    for name, client in clients.items():
        answer = client.http.get("/api/v1/live/changes/", params={"since": before[name]}).json()
        assert [change["user_id"] for change in answer["changes"]] == [user["id"]]


def test_web_killed_right_after_a_commit_loses_nothing(
    system: System, clients: dict[str, Api], master: Api, everything_runs: None
) -> None:
    """The process dies between its commit and anything it could still do; and so does the web."""
    with pytest.raises(Exception, match="manage"):
        system.manage(
            "master",
            "shell",
            "-c",
            "import os; from usercast_master.accounts.models import User;"
            "User.objects.create(username='after-commit'); os._exit(9)",
        )
    user = master.create()
    system.kill("master-web")
    for client in clients.values():
        eventually(lambda client=client: client.user(user["id"]), within=SOON_SECONDS)
        eventually(
            lambda client=client: client.http.get(
                "/api/v1/users/", params={"search": "after-commit"}
            ).json()["count"],
            within=SOON_SECONDS,
        )


@pytest.mark.parametrize(
    "name", ["master-relay", "master-worker", "billing-poller", "billing-worker"]
)
def test_killed_process_loses_nothing(
    system: System, master: Api, arrives: Arrives, everything_runs: None, name: str
) -> None:
    """A killed poller's messages come again after the queue's visibility timeout."""
    system.kill(name)
    user = master.create()
    system.start(name)
    arrives(user["id"], user)


def test_redis_and_sns_away_saving_goes_on_and_all_arrives_when_they_are_back(
    system: System, master: Api, arrives: Arrives
) -> None:
    """LocalStack is suspended rather than ended: it keeps its queues in memory only."""
    user = master.create()
    arrives(user["id"], user)
    normal = _seconds_to_save(master, user["id"])
    # Of Redis the web asks how often its caller has asked, and does not wait for the answer.
    sns = system.servers.localstack.port
    # A worker who has just been started again finds that the relay has published it all.
    eventually(
        lambda: (
            _seconds_to_save(master, user["id"])
            and sns in _ports_spoken_to(system.process("master-worker"))
        ),
        within=SOON_SECONDS,
    )
    assert sns not in _ports_spoken_to(system.process("master-web")), "a save waits for SNS"
    system.servers.valkey.stop()
    os.kill(system.servers.localstack.process.pid, signal.SIGSTOP)
    try:
        away = _seconds_to_save(master, user["id"])
        user = master.change(user["id"], last_name="saved while away")
    finally:
        os.kill(system.servers.localstack.process.pid, signal.SIGCONT)
        system.servers.valkey.start()
    back = time.monotonic()
    arrives(user["id"], user)
    print(
        f"\nsave: {normal * 1000:.1f} ms with Redis and SNS, {away * 1000:.1f} ms without; "
        f"delivered {time.monotonic() - back:.1f} s after they were back"
    )


def _ports_spoken_to(program: Process | Container) -> set[int]:
    """The ports at which a program with its children has connections open."""
    if isinstance(program, Container):
        return program.ports_spoken_to()
    return {
        connection.raddr.port
        for process in family(program.pid)
        for connection in process.net_connections("tcp")
        if connection.raddr
    }


def _seconds_to_save(master: Api, user_id: str) -> float:
    """The median of 15 saves over REST."""
    times = []
    for number in range(15):
        start = time.perf_counter()
        master.change(user_id, first_name=f"save {time.time_ns()} {number}")
        times.append(time.perf_counter() - start)
    return sorted(times)[7]


def test_redis_alone_away_the_relay_publishes_itself(
    system: System, master: Api, arrives: Arrives
) -> None:
    system.servers.valkey.stop()
    try:
        user = master.create()
        arrives(user["id"], user)
    finally:
        system.servers.valkey.start()
    user = master.change(user["id"], first_name="and after")
    arrives(user["id"], user)


def test_workers_away_the_relay_publishes_itself(
    system: System, master: Api, arrives: Arrives, everything_runs: None
) -> None:
    """The broker takes the tasks, and nobody does them."""
    system.stop("master-worker")
    user = master.create()
    arrives(user["id"], user)


def test_database_restarted_everything_goes_on(
    system: System, master: Api, arrives: Arrives
) -> None:
    system.servers.postgres.stop()
    system.servers.postgres.start()
    user = eventually(lambda: _created(master), within=SOON_SECONDS)
    arrives(user["id"], user)


def test_queues_lost_and_made_anew_everything_goes_on(
    system: System, master: Api, arrives: Arrives
) -> None:
    """LocalStack keeps nothing over a restart, as if somebody had deleted the stacks.

    What was in the queues is gone with them, and a topic without subscriptions accepts and forgets:
    so the users are sent again.
    """
    system.servers.localstack.stop()
    user = master.create()
    system.servers.localstack.start()
    system.deploy_topology()
    system.republish()
    arrives(user["id"], user)


def _created(master: Api) -> dict | None:
    answer = master.http.post("/api/v1/users/", json={"username": f"r{time.time_ns()}"})
    return answer.json() if answer.status_code == 201 else None


def test_malformed_message_ends_in_the_dead_letters(
    system: System, master: Api, arrives: Arrives
) -> None:
    import boto3

    variables = system.services["billing"].variables
    sqs = boto3.client(
        "sqs",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    live, dead = (
        sqs.get_queue_url(QueueName=f"usercast-billing-{kind}")["QueueUrl"]
        for kind in ("live", "dead")
    )
    sqs.send_message(QueueUrl=live, MessageBody="no batch at all")
    user = master.create()
    arrives(user["id"], user)
    found = eventually(
        lambda: sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=1).get("Messages"), within=60
    )
    assert found[0]["Body"] == "no batch at all"
    assert "change_rejected" in system.log("billing-poller").read_text()


@pytest.mark.parametrize("server", ["localstack", "postgres"])
def test_poller_stops_within_ten_seconds_though_a_server_hangs(
    system: System, master: Api, arrives: Arrives, everything_runs: None, server: str
) -> None:
    """The server is suspended: it takes connections and answers nothing."""
    user = master.create()
    arrives(user["id"], user)
    with suspended(family(getattr(system.servers, server).process.pid)):
        system.stop("billing-poller")
    # By itself: whoever needed force has a negative code.
    assert system.process("billing-poller").returncode in (0, os.EX_TEMPFAIL)


def test_processes_stop_in_good_order(system: System, everything_runs: None) -> None:
    for name in system.processes:
        start = time.monotonic()
        process = system.process(name)
        system.stop(name)
        # stop() turns to force after 10 s; whoever needed that has a negative code.
        # uvicorn ends by the signal it was sent, once it has stopped in good order.
        assert process.returncode in (0, 143, -15), f"{name} ended with {process.returncode}"
        print(f"{name} stopped in {time.monotonic() - start:.1f} s")
