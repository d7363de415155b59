"""What a client counts of changes on their way from its queues to its users' browsers.

``usercast.metrics`` tells it. Which process counts what stands with each.
"""

import time

from prometheus_client import Counter, Gauge, Histogram

from usercast.metrics import LAG_BUCKETS

# The poller's.
POLL_LOOPS = Counter("usercast_poll_loops_total", "Receives from a lane", ("lane", "outcome"))
APPLIED = Counter(
    "usercast_changes_applied_total", "Changes received, by what became of each", ("outcome",)
)
APPLIED_LAG = Histogram(
    "usercast_applied_lag_seconds",
    "From a change's commit on the master to its commit here",
    ("lane",),
    buckets=LAG_BUCKETS,
)

# A web process's.
PUSHED_LAG = Histogram(
    "usercast_pushed_lag_seconds",
    "From a change's commit on the master until it is handed to the open pages here",
    buckets=LAG_BUCKETS,
)
SOCKETS = Gauge("usercast_sockets_open", "Open WebSockets", multiprocess_mode="livesum")
FRAMES = Counter("usercast_frames_sent_total", "Frames sent to browsers")
GAPS = Counter(
    "usercast_feed_gaps_healed_total", "Times that a page fetched changes it had not been told of"
)
HEARTBEAT_AGE = Gauge(
    "usercast_heartbeat_age_seconds",
    "Since this process heard the clock, while pages are open",
    multiprocess_mode="livemax",
)

# The worker's.
QUEUE_MESSAGES = Gauge(
    "usercast_queue_messages",
    "About how many messages SQS has in a queue",
    ("queue",),
    multiprocess_mode="livemostrecent",
)
#: Since when the worker has found messages in a queue of dead letters, each time it looked.
DEAD_SINCE: dict[str, float] = {}


def note_queue(queue: str, messages: int, *, is_dead: bool = False) -> None:
    """About so many messages are in a queue."""
    QUEUE_MESSAGES.labels(queue).set(messages)
    if is_dead and messages:
        DEAD_SINCE.setdefault(queue, time.monotonic())
    else:
        DEAD_SINCE.pop(queue, None)
