"""Bad configuration ends a process at its start, with one line that names the variable."""

import subprocess

import pytest

from embedded.deployment import Deployment
from embedded.ports import free_port

NOWHERE = "127.0.0.1:1"
WRONG = {
    "missing SECRET_KEY": {"SECRET_KEY": None},
    "malformed REDIS_URL": {"REDIS_URL": "127.0.0.1:6379"},
    "unreachable database": {"DATABASE_URL": f"postgres://nobody@{NOWHERE}/none"},
}
WRONG_AWS = {
    **WRONG,
    "wrong endpoint": {"AWS_ENDPOINT_URL": f"http://{NOWHERE}"},
    "endpoint without scheme": {"AWS_ENDPOINT_URL": NOWHERE},
    "no region": {"AWS_DEFAULT_REGION": None},
    "no credentials": {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
}
CASES = [
    (process, case)
    for process, cases in {
        "master-web": WRONG,
        "master-relay": WRONG_AWS,
        "master-worker": {
            **WRONG_AWS,
            "no topic": {"USERCAST_TOPIC_ARN": "arn:aws:sns:eu-west-1:000000000000:nope"},
        },
        "billing-web": {**WRONG, "no origins": {"ALLOWED_ORIGINS": None}},
        "billing-poller": {**WRONG_AWS, "no queues": {"USERCAST_CLIENT": "nobody"}},
        "billing-worker": WRONG,
    }.items()
    for case in cases.items()
]


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("process", "case"), CASES, ids=[f"{process}-{case[0]}" for process, case in CASES]
)
def test_process_ends_with_one_clear_line(
    system: Deployment, process: str, case: tuple[str, dict[str, str | None]]
) -> None:
    _, changes = case
    spec = system.processes[process]
    environment = {**spec.env, **{k: v for k, v in changes.items() if v is not None}}
    for name in (name for name, value in changes.items() if value is None):
        del environment[name]
    environment["PORT"] = str(free_port())
    environment.pop("METRICS_PORT", None)
    ended = subprocess.run(
        spec.command,
        shell=True,
        cwd=spec.cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    output = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert "Traceback" not in output
    said = [line for line in output.splitlines() if line.startswith("usercast: ")]
    assert len(said) == 1, output
    assert next(iter(changes)) in said[0]
