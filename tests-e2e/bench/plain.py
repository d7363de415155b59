"""Measures the plain way (``bench.plain_way``) on the servers of a running system."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from celery import Celery
from django.db import connection as master
from psycopg2.extensions import connection

from bench import system
from bench.system import CLIENT, PROBES
from embedded.deployment import Deployment
from embedded.process import Process

TOPIC = "bench-plain"
DEADLINE_SECONDS = 300
_TABLE = """
CREATE TABLE plain_user (LIKE replica_user INCLUDING ALL);
ALTER TABLE plain_user DROP COLUMN version, DROP COLUMN master_groups, DROP COLUMN changed_at;
"""


@contextmanager
def running(deployment: Deployment) -> Iterator[tuple[Celery, list[Process]]]:
    """The worker and the consumer of the plain way; yields the app to send tasks by, and them."""
    broker = f"{deployment.servers.valkey.url}/5"
    topic, queue_url = create_topic_and_queue(TOPIC)
    settings = {"PLAIN_BROKER": broker, "PLAIN_TOPIC": topic}
    worker = "celery -A bench.plain_way worker --pool threads --concurrency 2"
    consumer = f"python -m bench.plain_way {queue_url}"
    programs = [
        _program(deployment, "master", worker, PLAIN_TABLE="accounts_user", **settings),
        _program(deployment, CLIENT, consumer, PLAIN_TABLE="plain_user", **settings),
    ]
    try:
        for program in programs:
            program.start()
        yield Celery("plain", broker=broker), programs
    finally:
        for program in programs:
            program.kill()


def create_topic_and_queue(name: str) -> tuple[str, str]:
    """A topic that hands its messages, raw, to one queue; returns the ARN and the queue's URL."""
    sns, sqs = boto3.client("sns"), boto3.client("sqs")
    topic = sns.create_topic(Name=name)["TopicArn"]
    queue_url = sqs.create_queue(QueueName=name)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=attributes["Attributes"]["QueueArn"],
        Attributes={"RawMessageDelivery": "true"},
    )
    return topic, queue_url


def drain(deployment: Deployment, client: connection, users: int) -> tuple[float, float]:
    """Bring so many users to the client, one by one; returns when it began and its seconds."""
    with client.cursor() as cursor:
        cursor.execute(_TABLE)
    first, *others = _user_ids(users + 1)

    def wait_for(rows: int) -> None:
        system.wait_until(
            lambda: system.value(client, "SELECT count(*) FROM plain_user") >= rows,
            programs=programs,
            within=DEADLINE_SECONDS,
            every=0.05,
        )

    with running(deployment) as (app, programs):
        app.send_task("bench.plain_way.send", [first])
        wait_for(1)  # Both processes are up.
        began = time.time()
        for user_id in others:
            app.send_task("bench.plain_way.send", [user_id])
        wait_for(users + 1)
        return began, time.time() - began


def _user_ids(count: int) -> list[str]:
    with master.cursor() as cursor:
        cursor.execute(
            "SELECT id::text FROM accounts_user WHERE username LIKE 'backlog-%%' LIMIT %s", [count]
        )
        return [row[0] for row in cursor.fetchall()]


def _program(deployment: Deployment, owner: str, line: str, **variables: str) -> Process:
    return Process(
        f"exec python -m bench.probe {PROBES / f'plain-{owner}'} {line}",
        env={**deployment.environment(owner), **variables},
        cwd=deployment.services[owner].directory,
        log=deployment.log(f"plain-{owner}"),
    )
