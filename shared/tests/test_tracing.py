"""The context of a change, passed on as text, with and without somebody to record it."""

import pytest

from usercast import tracing
from usercast.errors import ConfigurationError

ANN, BOB = (f"00-{digit * 32}-{digit * 16}-01" for digit in "ab")


def test_outside_any_there_is_no_trace() -> None:
    assert tracing.current() == ""
    assert tracing.trace_id() is None


def test_work_without_a_context_begins_a_trace_and_what_is_inside_is_part_of_it() -> None:
    with tracing.span("outer"):
        outer = tracing.trace_id()
        assert outer is not None
        with tracing.span("inner"):
            assert tracing.trace_id() == outer
    with tracing.span("another"):
        assert tracing.trace_id() != outer
    assert tracing.current() == ""


def test_work_for_one_trace_is_part_of_it_whatever_the_context() -> None:
    with tracing.span("elsewhere"), tracing.span("work", of=[ANN, None, ANN, "no traceparent"]):
        assert tracing.trace_id() == "a" * 32
        assert tracing.current() == ANN


def test_work_for_several_traces_is_a_trace_of_its_own() -> None:
    with tracing.span("work", of=[ANN, BOB]):
        assert tracing.trace_id() not in (None, "a" * 32, "b" * 32)


@pytest.mark.parametrize(
    "text", ["", None, "a", ANN[:-1], ANN + "0", ANN.replace("a", "0"), "00-" + "g" * 32, "é" * 55]
)
def test_what_is_no_traceparent_is_none(text: str | None) -> None:
    assert tracing.parse(text) is None


def test_traces_are_named_once_each_in_their_order() -> None:
    assert tracing.trace_ids([BOB, None, ANN, "", BOB]) == ["b" * 32, "a" * 32]
    assert tracing.representatives([BOB, None, ANN, "nonsense", BOB]) == [BOB, ANN]
    many = [f"00-{number:032x}-{'a' * 16}-01" for number in range(1, 500)]
    assert len(tracing.representatives(many)) == tracing.MAX_TRACES


def test_endpoint_without_the_sdk_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracing.ENDPOINT, "http://127.0.0.1:4318")
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError, match=r"usercast\[otel\]"):
        tracing.record("usercast-master", "web")
