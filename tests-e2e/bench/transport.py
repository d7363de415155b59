"""The transport's own floor: publish → receive on the same emulator, by a bare boto3 loop."""

import queue
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import boto3

from bench.plain import create_topic_and_queue

NAME = "bench-floor"
WAIT_SECONDS = 1


def floor(*, messages: int, size_bytes: int, pause_seconds: float) -> list[float]:
    """Seconds from publish to received, of single messages of this size, one after the other."""
    sns = boto3.client("sns")
    topic, queue_url = create_topic_and_queue(NAME)
    with _receiving(queue_url) as arrivals:
        seconds = []
        for _ in range(messages):
            time.sleep(random.uniform(0.5, 1.5) * pause_seconds)
            start = time.perf_counter()
            sns.publish(TopicArn=topic, Message="x" * size_bytes)
            seconds.append(arrivals.get(timeout=30) - start)
        return seconds


@contextmanager
def _receiving(queue_url: str) -> Iterator["queue.Queue[float]"]:
    """A thread that receives and deletes; yields the moments at which messages came."""
    arrivals: queue.Queue[float] = queue.Queue()
    ending = threading.Event()
    sqs = boto3.client("sqs")

    def receive() -> None:
        while not ending.is_set():
            answer = sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=WAIT_SECONDS)
            for message in answer.get("Messages", ()):
                arrivals.put(time.perf_counter())
                sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])

    receiver = threading.Thread(target=receive, daemon=True)
    receiver.start()
    try:
        yield arrivals
    finally:
        ending.set()
        receiver.join()
