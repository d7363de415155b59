"""``shared/run``, the images' entry point, in a directory laid out like an image's."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "run"
PROCFILE = """\
# web: not this one
web: sh -c 'echo "$USERCAST_PROCESS at $BIND:$PORT, pid $$, with $*"' web $BIND
relay: python manage.py relay
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    shutil.copy(RUN, tmp_path / "run")
    (tmp_path / "Procfile").write_text(PROCFILE)
    (tmp_path / "manage.py").write_text("import sys; print('manage', *sys.argv[1:])")
    return tmp_path


def start(image: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {
        **os.environ,
        "BIND": "0.0.0.0",
        "PORT": "8000",
        "USERCAST_RUN_DIR": str(image / "run.d"),
    }
    return subprocess.Popen(
        [image / "run", *arguments],
        env=environment,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(image: Path, *arguments: str) -> tuple[int, str]:
    process = start(image, *arguments)
    output, errors = process.communicate(timeout=30)
    return process.returncode, output + errors


def test_process_takes_the_place_of_the_shell(image: Path) -> None:
    process = start(image, "web", "--more", "a b")
    output, _ = process.communicate(timeout=30)
    expected = f"web at 0.0.0.0:8000, pid {process.pid}, with 0.0.0.0 --more a b"
    assert output.strip() == expected


@pytest.mark.parametrize(
    ("asked", "does"),
    [
        (["relay"], "manage relay"),
        (["migrate"], "manage migrate"),
        (["migrated"], "manage migrated"),
        (["migrated", "relay"], "manage migrated\nmanage relay"),
        (["manage", "shell", "-c", "1 + 1"], "manage shell -c 1 + 1"),
    ],
)
def test_what_it_starts(image: Path, asked: list[str], does: str) -> None:
    assert run(image, *asked) == (0, does + "\n")


def test_process_does_not_start_when_its_database_does_not_get_ready(image: Path) -> None:
    (image / "manage.py").write_text("import sys; print('manage', *sys.argv[1:]); sys.exit(1)")
    assert run(image, "migrated", "relay") == (1, "manage migrated\n")


def test_health_is_that_of_the_process_that_was_started(image: Path) -> None:
    run(image, "relay")
    assert run(image, "healthy", "--ready") == (0, "manage healthy relay --ready\n")


@pytest.mark.parametrize("name", ["nonsense", "", "web.*", "# web"])
def test_unknown_process_is_refused_with_those_there_are(image: Path, name: str) -> None:
    status, said = run(image, name)
    assert status == os.EX_USAGE
    assert said == (
        f"usercast: '{name}' cannot be run here; these can: "
        "web relay migrate migrated manage healthy\n"
    )
