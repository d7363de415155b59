"""What the templates of infra/aws make of an account, and whether each process may do what it does.

LocalStack enforces no policy. So the policies are held against the calls that the processes make,
written down as they run (recorder.py): all that is called is allowed, and nothing else.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest

from conftest import CLIENTS, SOON_SECONDS, Api
from embedded.deployment import Deployment
from recorder import ACCOUNT, REGION, Recorder
from usercast.testing import eventually

pytestmark = pytest.mark.embedded
INFRA = Path(__file__).parents[1] / "infra"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:usercast-users"
ISSUER = "oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
#: Longer than the least frequent of what processes do by themselves, the counting of dead letters.
ALL_DONE_SECONDS = 120.0

Aws = Callable[[str], Any]
#: Of each stack.
Outputs = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def aws(system: Deployment) -> Aws:
    def client(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=system.servers.localstack.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    return client


@pytest.fixture(scope="module")
def deployed(aws: Aws) -> Iterator[Outputs]:
    """The outputs of all stacks: those that the system made, and those beside them."""
    cloudformation = aws("cloudformation")

    def outputs(stack: str) -> dict[str, str]:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0].get("Outputs", [])
        return {output["OutputKey"]: output["OutputValue"] for output in found}

    def deploy(stack: str, template: str, **parameters: str) -> None:
        cloudformation.create_stack(
            StackName=stack,
            TemplateBody=(INFRA / "aws" / template).read_text(),
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        undo.callback(cloudformation.delete_stack, StackName=stack)
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=stack, WaiterConfig={"Delay": 0.3}
        )

    with ExitStack() as undo:
        topic = outputs("usercast-users")
        deploy("access-usercast", "access.yaml", **topic)
        deploy("cluster-access-usercast", "cluster-access.yaml")
        deploy("alarms-usercast", "alarms.yaml")
        for name in CLIENTS:
            key = {"Client": name, "KeyArn": topic["KeyArn"]}
            deploy(f"access-usercast-{name}", "client-access.yaml", **key)
        deploy(
            "irsa-usercast-billing-poller",
            "irsa.yaml",
            Account="billing-poller",
            Issuer=ISSUER,
            Policies=outputs("access-usercast-billing")["Poller"],
        )
        deploy(
            "alarms-usercast-billing",
            "client-alarms.yaml",
            Client="billing",
            NotifyTopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:on-call",
        )
        stacks = cloudformation.describe_stacks()["Stacks"]
        yield {stack["StackName"]: outputs(stack["StackName"]) for stack in stacks}


# Topic and queues


def queue(aws: Aws, name: str) -> dict[str, Any]:
    url = aws("sqs").get_queue_url(QueueName=name)["QueueUrl"]
    found = aws("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    for document in found.keys() & {"Policy", "RedrivePolicy"}:
        found[document] = json.loads(found[document])
    return found


@pytest.mark.parametrize("name", CLIENTS)
def test_topic_and_queues_have_one_key_which_is_rotated(
    aws: Aws, deployed: Outputs, name: str
) -> None:
    key = deployed["usercast-users"]["KeyArn"]
    topic = aws("sns").get_topic_attributes(TopicArn=TOPIC)["Attributes"]
    assert topic["KmsMasterKeyId"] == key
    for kind in ("live", "bulk", "dead", "undelivered"):
        attributes = queue(aws, f"usercast-{name}-{kind}")
        assert attributes["KmsMasterKeyId"] == key
        assert int(attributes["KmsDataKeyReusePeriodSeconds"]) >= 300
    assert aws("kms").get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    assert aws("kms").describe_key(KeyId="alias/usercast")["KeyMetadata"]["Arn"] == key


def test_key_is_the_accounts_and_sns_may_use_it_for_this_account_only(
    aws: Aws, deployed: Outputs
) -> None:
    key = deployed["usercast-users"]["KeyArn"]
    policy = json.loads(aws("kms").get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    account, sns = policy["Statement"]
    assert account["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    assert sns["Principal"] == {"Service": "sns.amazonaws.com"}
    assert sns["Action"] == ["kms:GenerateDataKey*", "kms:Decrypt"]
    assert sns["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}


WITHOUT_TLS = {"Bool": {"aws:SecureTransport": "false"}}


def test_only_this_account_publishes_and_only_by_tls(aws: Aws, deployed: Outputs) -> None:
    attributes = aws("sns").get_topic_attributes(TopicArn=TOPIC)["Attributes"]
    allow, deny = json.loads(attributes["Policy"])["Statement"]
    assert (allow["Effect"], deny["Effect"]) == ("Allow", "Deny")
    assert allow["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    assert (deny["Principal"], deny["Condition"]) == ("*", WITHOUT_TLS)
    assert allow["Action"] == deny["Action"] == "sns:Publish"


@pytest.mark.parametrize("name", CLIENTS)
def test_only_the_topic_sends_into_the_queues_and_only_by_tls(aws: Aws, name: str) -> None:
    for kind in ("live", "bulk", "dead", "undelivered"):
        attributes = queue(aws, f"usercast-{name}-{kind}")
        *allow, deny = attributes["Policy"]["Statement"]
        assert (deny["Effect"], deny["Principal"]) == ("Deny", "*")
        assert deny["Condition"] == WITHOUT_TLS
        # A lane's dead letters come from SQS itself.
        assert len(allow) == (kind != "dead")
        for statement in allow:
            assert statement["Effect"] == "Allow"
            assert statement["Principal"] == {"Service": "sns.amazonaws.com"}
            assert statement["Action"] == "sqs:SendMessage"
            assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": TOPIC}}
        # SQS refuses a policy that names another queue, or several; LocalStack does not.
        for statement in (*allow, deny):
            assert statement["Resource"] == attributes["QueueArn"]


@pytest.mark.parametrize(("name", "lane"), [*product(CLIENTS, ("live", "bulk"))])
def test_lane_is_filtered_raw_and_has_dead_letters_on_both_sides(
    aws: Aws, name: str, lane: str
) -> None:
    queues = f"arn:aws:sqs:{REGION}:{ACCOUNT}:usercast-{name}"
    pages = aws("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=TOPIC)
    (arn,) = [
        found["SubscriptionArn"]
        for page in pages
        for found in page["Subscriptions"]
        if found["Endpoint"] == f"{queues}-{lane}"
    ]
    subscription = aws("sns").get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
    assert json.loads(subscription["FilterPolicy"]) == {"lane": [lane]}
    assert subscription["RawMessageDelivery"] == "true"
    assert json.loads(subscription["RedrivePolicy"]) == {
        "deadLetterTargetArn": f"{queues}-undelivered"
    }
    attributes = queue(aws, f"usercast-{name}-{lane}")
    assert attributes["VisibilityTimeout"] == "20"
    assert attributes["RedrivePolicy"]["deadLetterTargetArn"] == f"{queues}-dead"


# Rights


class Statement(NamedTuple):
    """One statement of a policy, its lists made lists."""

    allows: bool
    actions: list[str]
    resources: list[str]
    condition: dict[str, Any]

    def covers(self, action: str, resource: str) -> bool:
        return any(fnmatchcase(action, pattern) for pattern in self.actions) and any(
            fnmatchcase(resource, pattern) for pattern in self.resources
        )


Policies = dict[tuple[str, str], list[Statement]]
#: What SNS asks of a subscription, for which it knows no resource.
OF_A_SUBSCRIPTION = {
    "sns:GetSubscriptionAttributes",
    "sns:SetSubscriptionAttributes",
    "sns:Unsubscribe",
}


@pytest.fixture(scope="module")
def policies(aws: Aws, deployed: Outputs) -> Policies:
    """The statements of each policy, by what it is of (master, or the client) and its name."""

    def statements(arn: str) -> list[Statement]:
        version = aws("iam").get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        found = aws("iam").get_policy_version(PolicyArn=arn, VersionId=version)
        return [
            Statement(
                each["Effect"] == "Allow",
                as_list(each["Action"]),
                as_list(each["Resource"]),
                each.get("Condition", {}),
            )
            for each in found["PolicyVersion"]["Document"]["Statement"]
        ]

    return {
        (stack.removeprefix("access-usercast").removeprefix("-") or "master", name): statements(arn)
        for stack, outputs in deployed.items()
        if stack.startswith("access-")
        for name, arn in outputs.items()
    }


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def allowed(policy: list[Statement], action: str, resource: str) -> bool:
    """What IAM says; the conditions are met."""
    covering = [statement.allows for statement in policy if statement.covers(action, resource)]
    return bool(covering) and all(covering)


def test_no_policy_allows_all_actions_or_all_resources(
    policies: Policies, deployed: Outputs
) -> None:
    assert len(policies) == 3 + 3 * len(CLIENTS)
    for statement in [each for policy in policies.values() for each in policy if each.allows]:
        wild = {action for action in statement.actions if "*" in action}
        assert wild <= {"kms:GenerateDataKey*"}
        key = deployed["usercast-users"]["KeyArn"]
        if statement.resources == ["*"]:
            assert {*statement.actions} == OF_A_SUBSCRIPTION
            continue
        assert all(
            resource == key or (f":{ACCOUNT}:" in resource and "usercast" in resource)
            for resource in statement.resources
        )


def test_key_is_used_by_way_of_the_queue_or_the_topic_only(policies: Policies) -> None:
    for (owner, name), policy in policies.items():
        crypt = [each for each in policy if any("kms:" in action for action in each.actions)]
        if name in {"Registrar", "Worker"}:
            assert not crypt
            continue
        if name == "TopicKeeper":  # It changes the key, and cannot use it.
            assert not any("crypt" in action or "Data" in action for action in crypt[0].actions)
            continue
        (statement,) = crypt
        service = "sns" if owner == "master" else "sqs"
        assert statement.condition == {
            "StringEquals": {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"}
        }
        # Who only receives needs no key to encrypt with.
        assert (statement.actions == ["kms:Decrypt"]) == (name == "Poller")


@pytest.mark.parametrize("name", CLIENTS)
def test_client_has_no_right_to_anything_of_another(policies: Policies, name: str) -> None:
    (other,) = {*CLIENTS} - {name}
    of_it = [policy for (owner, _), policy in policies.items() if owner == name]
    assert len(of_it) == 3
    resources = [resource for policy in of_it for each in policy for resource in each.resources]
    assert not [found for found in resources if other in found or ":sns:" in found]
    assert all(f"usercast-{name}-" in found for found in resources if ":sqs:" in found)


def test_role_of_a_service_account_may_what_its_process_may(aws: Aws, deployed: Outputs) -> None:
    name = "usercast-billing-poller"
    (given,) = aws("iam").list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    assert given["PolicyArn"] == deployed["access-usercast-billing"]["Poller"]
    role = aws("iam").get_role(RoleName=name)["Role"]
    (trust,) = json.loads(role["AssumeRolePolicyDocument"])["Statement"]
    assert trust["Principal"] == {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"}
    assert trust["Condition"]["StringEquals"] == {
        f"{ISSUER}:aud": "sts.amazonaws.com",
        f"{ISSUER}:sub": "system:serviceaccount:usercast:billing-poller",
    }


def test_registrar_subscribes_queues_of_this_account_alone(policies: Policies) -> None:
    (statement,) = [
        each for each in policies["master", "Registrar"] if "sns:Subscribe" in each.actions
    ]
    assert statement.resources == [TOPIC]
    assert statement.condition == {
        "StringEquals": {"sns:Protocol": "sqs"},
        "StringLike": {"sns:Endpoint": f"arn:aws:sqs:{REGION}:{ACCOUNT}:usercast-*"},
    }


def test_registrar_cannot_touch_the_topics_stack(policies: Policies) -> None:
    stack = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/usercast"
    registrar = policies["master", "Registrar"]
    for action in ("CreateStack", "UpdateStack", "DeleteStack"):
        assert allowed(registrar, f"cloudformation:{action}", f"{stack}-billing/*")
        assert not allowed(registrar, f"cloudformation:{action}", f"{stack}-users/*")
        # Nor those that give rights, whose names begin otherwise for this.
        access = stack.replace("/usercast", "/access-usercast")
        assert not allowed(registrar, f"cloudformation:{action}", f"{access}-billing/*")


@pytest.fixture
def recorder(system: Deployment, tmp_path: Path, everything_runs: None) -> Recorder:
    return Recorder(system, tmp_path)


def unused(policy: list[Statement], calls: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What is allowed without a condition, and nobody has called."""
    return {
        (action, resource)
        for statement in policy
        if statement.allows and not statement.condition
        for action, resource in product(statement.actions, statement.resources)
        if not any(called == action and fnmatchcase(target, resource) for called, target in calls)
    }


def refused(policy: list[Statement], calls: set[tuple[str, str]]) -> set[tuple[str, str]]:
    return {call for call in calls if not allowed(policy, *call)}


#: Whose rights they are, and which processes have them.
PROCESSES = {
    ("master", "Publisher"): ("master-relay", "master-worker"),
    ("billing", "Poller"): ("billing-poller",),
    ("billing", "Worker"): ("billing-worker",),
}


@pytest.mark.timeout(400)
def test_processes_may_do_what_they_do_and_nothing_else(
    aws: Aws,
    policies: Policies,
    recorder: Recorder,
    no_letters: None,
    master: Api,
    arrives: Callable[..., None],
) -> None:
    with ExitStack() as running:
        for (_, policy), processes in PROCESSES.items():
            for name in processes:
                running.callback(recorder.instead_of(name, policy).close)
        user = master.create()
        arrives(user["id"], user)
        # What cannot be read is given back until it is dead.
        for lane in ("live", "bulk"):
            aws("sns").publish(TopicArn=TOPIC, Message="no batch", MessageAttributes=of_lane(lane))
        for owner, name in PROCESSES:
            eventually(
                lambda policy=policies[owner, name], name=name: (
                    not unused(policy, recorder.calls(name))
                ),
                within=ALL_DONE_SECONDS,
                what=f"all of {name}'s rights having been used",
            )
            assert not refused(policies[owner, name], recorder.calls(name))
        _look_after_dead_letters(aws, recorder)
    for name in ("Poller", "Redrive"):
        assert not refused(policies["billing", name], recorder.calls(name))
    assert not unused(policies["billing", "Redrive"], recorder.calls("Redrive"))


def of_lane(lane: str) -> dict[str, Any]:
    return {"lane": {"DataType": "String", "StringValue": lane}}


def dead_of(aws: Aws, name: str) -> int:
    return int(queue(aws, f"usercast-{name}-dead")["ApproximateNumberOfMessages"])


def _look_after_dead_letters(aws: Aws, recorder: Recorder) -> None:
    """Every subcommand, with letters of both lanes in both queues; the poller runs."""
    eventually(lambda: dead_of(aws, "billing") == 2, within=SOON_SECONDS)
    url = aws("sqs").get_queue_url(QueueName="usercast-billing-undelivered")["QueueUrl"]
    for lane in ("live", "bulk"):
        aws("sqs").send_message(
            QueueUrl=url, MessageBody="no batch", MessageAttributes=of_lane(lane)
        )
    recorder.manage("billing", "Redrive", "dead_letters", "list")
    recorder.manage("billing", "Redrive", "dead_letters", "redrive")
    # The poller gives up all four again.
    eventually(lambda: dead_of(aws, "billing") == 4, within=SOON_SECONDS)
    recorder.manage("billing", "Redrive", "dead_letters", "purge", "--yes")
    eventually(lambda: dead_of(aws, "support") == 2, within=SOON_SECONDS)


@pytest.fixture
def no_letters(aws: Aws) -> Iterator[None]:
    """Find no dead letter of other tests, and leave none to them."""
    purge(aws)
    yield
    purge(aws)


def purge(aws: Aws) -> None:
    for name, kind in product(CLIENTS, ("dead", "undelivered")):
        url = aws("sqs").get_queue_url(QueueName=f"usercast-{name}-{kind}")["QueueUrl"]
        aws("sqs").purge_queue(QueueUrl=url)


def test_operators_may_do_what_their_commands_do(policies: Policies, recorder: Recorder) -> None:
    for _ in range(2):
        recorder.manage("master", "Registrar", "clients", "add", "recorded")
    recorder.manage("master", "Registrar", "clients", "remove", "recorded", "--yes")
    recorder.manage("master", "TopicKeeper", "deploy_topic")
    for name in ("Registrar", "TopicKeeper"):
        policy, calls = policies["master", name], recorder.calls(name)
        assert not refused(policy, calls)
        # The rest CloudFormation does, in their name.
        assert all(
            action.startswith(("sqs:", "sns:", "kms:")) for action, _ in unused(policy, calls)
        )


# Alarms


@pytest.fixture(scope="module")
def alarms(aws: Aws, deployed: Outputs) -> dict[str, dict[str, Any]]:
    """By the name of the queue or topic, and the metric."""
    found = aws("cloudwatch").describe_alarms()["MetricAlarms"]
    return {f"{alarm['Dimensions'][0]['Value']} {alarm['MetricName']}": alarm for alarm in found}


@pytest.mark.parametrize(
    ("metric", "threshold", "silence"),
    [
        ("usercast-billing-live ApproximateAgeOfOldestMessage", 60, "breaching"),
        ("usercast-billing-bulk ApproximateAgeOfOldestMessage", 900, "breaching"),
        ("usercast-billing-dead ApproximateNumberOfMessagesVisible", 0, "notBreaching"),
        ("usercast-billing-undelivered ApproximateNumberOfMessagesVisible", 0, "notBreaching"),
        ("usercast-users NumberOfNotificationsFailed", 0, "notBreaching"),
    ],
)
def test_alarm_fires_above_its_threshold_and_knows_what_silence_means(
    alarms: dict[str, dict[str, Any]], metric: str, threshold: int, silence: str
) -> None:
    alarm = alarms[metric]
    assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
    assert alarm["Threshold"] == threshold
    assert alarm["TreatMissingData"] == silence


def test_alarms_tell_whom_they_are_to_tell_or_nobody(alarms: dict[str, dict[str, Any]]) -> None:
    for metric, alarm in alarms.items():
        told = [] if "users" in metric else [f"arn:aws:sns:{REGION}:{ACCOUNT}:on-call"]
        assert alarm.get("AlarmActions", []) == alarm.get("OKActions", []) == told
