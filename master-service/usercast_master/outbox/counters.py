"""What is counted of changes on their way from a save to SNS; ``usercast.metrics`` tells it."""

from prometheus_client import Counter, Histogram

CAPTURED = Counter(
    "usercast_changes_captured_total", "Changes marked in the outbox and committed", ("priority",)
)
PUBLISHED = Counter(
    "usercast_changes_published_total", "Users' states that SNS accepted", ("priority",)
)
REFUSED = Counter("usercast_changes_refused_total", "Users' states that SNS refused")
PARKED = Counter("usercast_changes_parked_total", "Users' states set aside for good")
FAILURES = Counter("usercast_publish_failures_total", "Times that SNS could not be reached")
PUBLISH_SECONDS = Histogram(
    "usercast_publish_seconds",
    "How long a call to SNS took, of up to ten messages",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 12),
)
MESSAGE_CHANGES = Histogram(
    "usercast_message_changes",
    "Changes that share a message",
    buckets=(1, 2, 5, 10, 25, 50, 100, 150, 200),
)
