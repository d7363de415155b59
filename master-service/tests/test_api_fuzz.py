"""schemathesis: what the schema allows and what it forbids, for every operation, and in chains."""

import pytest
import schemathesis
from django.contrib.auth.models import Group
from django.core.wsgi import get_wsgi_application
from django.db import connection
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from usercast_master.accounts.models import User
from usercast_master.api.models import ApiToken, Scope

# Each request ends with its connection closed or not, as in the server.
pytestmark = pytest.mark.django_db(transaction=True)

# The same cases in each run: what fails here fails everywhere. Raise the count to look for more.
EXAMPLES = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


CONFIG = schemathesis.Config.from_dict(
    # RFC 6585 made 428 for exactly this.
    {"checks": {"missing_required_header": {"expected-statuses": ["400", "401", "428"]}}}
)
SCHEMA = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(public=True), config=CONFIG)
SCHEMA.app = get_wsgi_application()


def create_some() -> None:
    """Something to find."""
    Group.objects.create(name="editors")
    for number in range(3):
        User.objects.create(username=f"user{number}")


@pytest.fixture
def headers() -> dict[str, str]:
    create_some()
    operator = User.objects.create_superuser("operator", password="correct horse battery")
    _, token = ApiToken.objects.create(operator, name="fuzz", scopes=list(Scope))
    return {"Authorization": f"Token {token}"}


@SCHEMA.parametrize()
@EXAMPLES
def test_every_operation_keeps_its_schema(case: schemathesis.Case, headers: dict[str, str]) -> None:
    # Names that are taken and groups that are not there fit the schema, and are refused.
    case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])


def test_chains_of_operations_keep_the_schema(headers: dict[str, str]) -> None:
    """What one answer names is asked for, changed and deleted by the next requests."""

    class Chains(SCHEMA.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            """Hypothesis wants each chain to begin alike: with what the one before has left, a
            chain that it goes through again would have other answers."""
            User.objects.exclude(username="operator").delete()
            Group.objects.all().delete()
            with connection.cursor() as cursor:
                cursor.execute("ALTER SEQUENCE auth_group_id_seq RESTART")
            create_some()

        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, object]:
            return {"headers": headers}

        def validate_response(self, response: object, case: schemathesis.Case, **_: object) -> None:
            excluded = [positive_data_acceptance]
            case.validate_response(response, headers=headers, excluded_checks=excluded)

    Chains.run(settings=settings(EXAMPLES, max_examples=20, stateful_step_count=8))
