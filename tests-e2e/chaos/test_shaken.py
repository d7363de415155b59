"""The shaking shuffles, doubles and delays, and loses nothing."""

from collections import Counter
from typing import Any

from chaos.shaken import MAX_MESSAGES, Shaker


def receive(shaker: Shaker, queue: list[str]) -> list[str]:
    """One receive, as boto3 would make it; returns what the receiver gets."""
    params: dict[str, Any] = {"MaxNumberOfMessages": MAX_MESSAGES, "WaitTimeSeconds": 3}
    shaker.ask(params)
    fetched = [{"MessageId": queue.pop(0)} for _ in range(params["MaxNumberOfMessages"]) if queue]
    return [message["MessageId"] for message in shaker.shake(fetched)]


def test_all_arrive_in_another_order_and_some_again() -> None:
    sent = [f"{number:03}" for number in range(300)]
    queue, shaker = list(sent), Shaker("seed")
    receives = [receive(shaker, queue) for _ in range(80)]
    given = [message for messages in receives for message in messages]
    counts = Counter(given)
    assert counts.keys() == set(sent)
    assert sum(count > 1 for count in counts.values()) > 50
    assert given != sorted(given)
    assert max(len(messages) for messages in receives) <= MAX_MESSAGES
    again = [number for number, ids in enumerate(receives) if set(ids) & set(receives[0])]
    assert max(again) > 0, "a message of the first receive came again in a later one"


def test_seed_repeats_it() -> None:
    def given(seed: str) -> list[list[str]]:
        queue, shaker = [f"{number:03}" for number in range(50)], Shaker(seed)
        return [receive(shaker, queue) for _ in range(6)]

    assert given("seed") == given("seed") != given("another")
