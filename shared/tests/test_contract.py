import base64
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usercast import contract
from usercast.contract import Lane, Message, UserChange, UserGone, UserState
from usercast.errors import ContractError

GOLDEN = Path(__file__).parent / "golden"
USER_ID = UUID("0198c8a0-0000-7000-8000-000000000001")
UPSERTED = UserChange(
    changed_at=datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC),
    data=UserState(
        id=USER_ID,
        version=7,
        username="zoë.müller",
        email="zoe@example.org",
        first_name="Zoë",
        last_name="Müller",
        is_active=True,
        date_joined=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
        groups=("editors", "finance"),
    ),
)
DELETED = UserChange(
    changed_at=datetime(2026, 3, 4, 5, 7, tzinfo=UTC), data=UserGone(id=USER_ID, version=8)
)


def encode(*changes: UserChange, compress: bool = False) -> Message:
    return contract.encode_batch([contract.encode_change(c) for c in changes], compress=compress)


@pytest.mark.parametrize(
    ("name", "change"), [("user-upserted.v1", UPSERTED), ("user-deleted.v1", DELETED)]
)
def test_golden_file_is_what_the_master_sends_and_what_a_client_reads(
    name: str, change: UserChange
) -> None:
    golden = (GOLDEN / f"{name}.json").read_text()
    assert json.loads(encode(change).body) == json.loads(golden)
    assert contract.decode_batch(Message(body=golden)).changes == [change]


def test_golden_probe() -> None:
    at = datetime(2026, 3, 4, 5, 8, tzinfo=UTC)
    golden = (GOLDEN / "probe.v1.json").read_text()
    sent = contract.encode_batch([contract.encode_probe(Lane.LIVE, at)], compress=False)
    assert json.loads(sent.body) == json.loads(golden)
    batch = contract.decode_batch(Message(body=golden))
    assert (batch.changes, batch.rejected) == ([], [])
    assert [(probe.subject, probe.time) for probe in batch.probes] == [(Lane.LIVE, at)]


@pytest.mark.parametrize("name", ["user-upserted.v1", "user-deleted.v1", "probe.v1"])
def test_golden_file_satisfies_the_committed_schema(name: str) -> None:
    schema = json.loads(contract.SCHEMA_PATH.read_text())
    jsonschema.Draft202012Validator(schema).validate(
        json.loads((GOLDEN / f"{name}.json").read_text())
    )


@pytest.mark.parametrize(
    ("field", "value"), [("version", 0), ("username", ""), ("is_active", "yes"), ("groups", [1])]
)
def test_schema_refuses_what_the_reader_refuses(field: str, value: object) -> None:
    event = json.loads(encode(UPSERTED).body)
    event[0]["data"][field] = value
    schema = json.loads(contract.SCHEMA_PATH.read_text())
    assert not jsonschema.Draft202012Validator(schema).is_valid(event)
    assert contract.decode_batch(Message(body=json.dumps(event))).rejected


def test_committed_schema_is_current() -> None:
    assert contract.SCHEMA_PATH.read_text() == contract.json_schema(), "run: make schema"


def unbase64(body: str) -> bytes:
    """As another language's reader would, to which the padding matters."""
    assert not set(body) & set("+/=")
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


def test_compressed_batch_is_base64url_of_gzip() -> None:
    message = encode(UPSERTED, DELETED, compress=True)
    assert message.content_encoding == "gzip"
    assert len(json.loads(gzip.decompress(unbase64(message.body)))) == 2
    assert contract.decode_batch(message).changes == [UPSERTED, DELETED]


def test_trace_of_a_change_travels_with_it() -> None:
    traced = msgspec.structs.replace(UPSERTED, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    message = encode(traced, DELETED)
    assert contract.decode_batch(message).changes == [traced, DELETED]
    first, second = json.loads(message.body)
    assert first["traceparent"] == traced.traceparent
    assert "traceparent" not in second


def test_reader_ignores_unknown_fields() -> None:
    event = json.loads(encode(UPSERTED).body)
    event[0]["tracestate"] = "vendor=abc"
    event[0]["data"]["shoe_size"] = 43
    assert contract.decode_batch(Message(body=json.dumps(event))).changes == [UPSERTED]


@pytest.mark.parametrize(
    "spoil",
    [
        {"type": "usercast.user.upserted.v2"},
        {"specversion": "2.0"},
        {"data": None},
        {"data": {**json.loads(encode(UPSERTED).body)[0]["data"], "username": "a\0b"}},
        {"data": {**json.loads(encode(UPSERTED).body)[0]["data"], "groups": ["a\0b"]}},
        {
            "data": {
                **json.loads(encode(UPSERTED).body)[0]["data"],
                "date_joined": "2025-01-01T00:00:00",
            }
        },
        {"data": {**json.loads(encode(UPSERTED).body)[0]["data"], "version": 2**63}},
        {"time": "9999-12-31T23:59:59-14:00"},
        {
            "data": {
                **json.loads(encode(UPSERTED).body)[0]["data"],
                "date_joined": "0001-01-01T00:00:00+14:00",
            }
        },
        {"data": {**json.loads(encode(UPSERTED).body)[0]["data"], "email": "e" * 255}},
    ],
)
def test_bad_change_is_told_apart_from_the_good_ones_beside_it(spoil: dict[str, object]) -> None:
    events = json.loads(encode(DELETED, UPSERTED, DELETED).body)
    events[1].update(spoil)
    batch = contract.decode_batch(Message(body=json.dumps(events)))
    assert batch.changes == [DELETED, DELETED]
    assert [bad.position for bad in batch.rejected] == [1]
    assert batch.rejected[0].reason


def test_text_that_only_looks_like_a_nul_is_kept() -> None:
    events = json.loads(encode(UPSERTED).body)
    events[0]["data"]["first_name"] = r"\u0000"
    batch = contract.decode_batch(Message(body=json.dumps(events)))
    assert [c.data.first_name for c in batch.changes if isinstance(c.data, UserState)] == [
        r"\u0000"
    ]


@pytest.mark.parametrize(
    "message",
    [
        Message(body="not json"),
        Message(body='{"an": "object"}'),
        Message(body="", content_encoding="gzip"),
        Message(body="%%%", content_encoding="gzip"),
        Message(body=base64.urlsafe_b64encode(b"no gzip").decode(), content_encoding="gzip"),
        Message(
            body=base64.urlsafe_b64encode(gzip.compress(b"[]" * 500)[:-9]).decode(),
            content_encoding="gzip",
        ),
        Message(
            body=base64.urlsafe_b64encode(
                gzip.compress(b" " * (contract.MAX_DECODED_BYTES + 1))
            ).decode(),
            content_encoding="gzip",
        ),
        Message(body='[{"\ud800": 1}]'),
        Message(body="[" * 3000),
        Message(body='[{"type": ' + "[" * 3000 + "]" * 3000 + "}]"),
    ],
    ids=[
        "text",
        "object",
        "empty",
        "no-base64",
        "no-gzip",
        "cut-off",
        "bomb",
        "surrogate",
        "deep",
        "deep-in-a-field",
    ],
)
def test_message_that_cannot_be_read_is_a_contract_error_or_all_rejected(message: Message) -> None:
    with pytest.raises(ContractError, match=r"body|change"):
        if contract.decode_batch(message).rejected:
            raise ContractError("every change was rejected")


# hypothesis takes its bounds without a zone and adds one.
moments = st.datetimes(
    datetime(2, 1, 1),  # noqa: DTZ001
    datetime(9998, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)
states = st.builds(
    UserState,
    id=st.uuids(),
    version=st.integers(1, 2**63 - 1),
    username=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=150
    ),
    email=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=254),
    first_name=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=150
    ),
    last_name=st.just("x"),
    is_active=st.booleans(),
    date_joined=moments,
    groups=st.lists(st.sampled_from(["a", "b", "ü"]), unique=True).map(tuple),
)


@given(
    st.lists(
        st.builds(
            UserChange,
            changed_at=moments,
            data=states,
        )
    ),
    st.booleans(),
)
def test_any_batch_survives_the_way_over_the_wire(
    changes: list[UserChange], compress: bool
) -> None:
    assert contract.decode_batch(encode(*changes, compress=compress)).changes == changes
