"""The templates of infra as text: what LocalStack does not know, and the roles of a cluster."""

import json
import os
import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from test_k8s import of, overlay

pytestmark = pytest.mark.static
INFRA = Path(__file__).parents[1] / "infra"


class Template(yaml.SafeLoader):
    """Reads a template; `!Ref x` becomes {"Ref": x}."""


def _short_form(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}


Template.add_multi_constructor("!", _short_form)


def resources(path: str) -> dict[str, dict[str, Any]]:
    template = yaml.load((INFRA / path).read_text(), Template)
    return template["Resources"]


def test_repository_keeps_each_tag_scans_it_and_forgets_old_ones() -> None:
    found = resources("ecr/repositories.yaml")
    repositories = [
        each["Properties"] for each in found.values() if each["Type"] == "AWS::ECR::Repository"
    ]
    assert {each["RepositoryName"] for each in repositories} == {
        *("usercast-master", "usercast-master-nginx", "usercast-client", "usercast-client-nginx")
    }
    for each in repositories:
        assert each["ImageTagMutability"] == "IMMUTABLE"
        assert each["ImageScanningConfiguration"] == {"ScanOnPush": True}
    template = yaml.load((INFRA / "ecr" / "repositories.yaml").read_text(), Template)
    rules = json.loads(template["Mappings"]["All"]["Lifecycle"]["Policy"])["rules"]
    assert [rule["selection"]["countNumber"] for rule in rules] == [7, 30]
    for each in (found["Pull"], found["Push"]):
        pull, log_in = each["Properties"]["PolicyDocument"]["Statement"]
        assert "*" not in str(pull)
        # The token is the whole registry's; to a single repository IAM cannot narrow it.
        assert log_in["Action"] == "ecr:GetAuthorizationToken"


def test_host_is_reached_by_the_load_balancer_alone() -> None:
    found = resources("ec2/host.yaml")
    from_balancer, ssh = found["HostGroup"]["Properties"]["SecurityGroupIngress"]
    assert from_balancer["SourceSecurityGroupId"] == {"GetAtt": "BalancerGroup.GroupId"}
    assert (from_balancer["FromPort"], from_balancer["ToPort"]) == (8080, 8099)
    assert "CidrIp" not in from_balancer
    condition, given, otherwise = ssh["If"]
    assert (condition, given["CidrIp"]) == ("Ssh", {"Ref": "SshCidr"})
    assert otherwise == {"Ref": "AWS::NoValue"}
    everybody = [
        rule["FromPort"] for rule in found["BalancerGroup"]["Properties"]["SecurityGroupIngress"]
    ]
    assert everybody == [443, 80]


def test_host_is_not_replaced_by_a_change_of_what_it_starts_with() -> None:
    found = resources("ec2/host.yaml")
    host = found["Host"]["Properties"]
    # Another version, network or zone would be another host, without the swarm's secrets.
    assert host["LaunchTemplate"]["Version"] == "1"
    assert host["InstanceType"] == {"Ref": "InstanceType"}
    assert "InstanceType" not in found["LaunchTemplate"]["Properties"]["LaunchTemplateData"]


def test_what_prometheus_cannot_tell_since_it_is_there_itself_has_an_alarm() -> None:
    told = {"If": ["Notifies", [{"Ref": "NotifyTopicArn"}], {"Ref": "AWS::NoValue"}]}
    metrics = set()
    for path in ("ec2/host.yaml", "ec2/site.yaml", "ec2/data.yaml"):
        for each in resources(path).values():
            if each["Type"] == "AWS::CloudWatch::Alarm":
                properties = each["Properties"]
                assert properties["AlarmActions"] == properties["OKActions"] == told
                metrics.add(f"{properties['Namespace']} {properties['MetricName']}")
    assert metrics == {
        "AWS/EC2 StatusCheckFailed",
        "AWS/ApplicationELB UnHealthyHostCount",
        "AWS/RDS FreeStorageSpace",
    }


def test_host_gives_its_role_to_no_bare_get_and_its_disk_to_nobody() -> None:
    data = resources("ec2/host.yaml")["LaunchTemplate"]["Properties"]["LaunchTemplateData"]
    assert data["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    assert data["ImageId"] == {"Sub": "resolve:ssm:${Image}"}
    (disk,) = data["BlockDeviceMappings"]
    assert disk["Ebs"]["Encrypted"]
    assert disk["Ebs"]["VolumeType"] == "gp3"


def test_load_balancer_speaks_tls_and_bears_quiet_sockets() -> None:
    found = resources("ec2/host.yaml")
    attributes = {
        each["Key"]: each["Value"]
        for each in found["Balancer"]["Properties"]["LoadBalancerAttributes"]
    }
    assert int(attributes["idle_timeout.timeout_seconds"]) >= 60
    (redirect,) = found["ToHttps"]["Properties"]["DefaultActions"]
    assert redirect["RedirectConfig"]["Protocol"] == "HTTPS"
    assert "TLS13" in found["Https"]["Properties"]["SslPolicy"]
    site = resources("ec2/site.yaml")
    assert site["Nginx"]["Properties"]["HealthCheckPath"] == "/livez"
    (by_name,) = site["ByName"]["Properties"]["Conditions"]
    assert by_name["HostHeaderConfig"] == {"Values": [{"Ref": "HostName"}]}


def test_database_outlives_host_and_stack() -> None:
    server = resources("ec2/data.yaml")["Server"]
    assert server["DeletionPolicy"] == server["UpdateReplacePolicy"] == "Snapshot"
    properties = server["Properties"]
    assert properties["EngineVersion"].split(".")[0] == "17"
    assert properties["BackupRetentionPeriod"] == 7
    assert properties["StorageEncrypted"]
    assert properties["DeletionProtection"]
    assert not properties["PubliclyAccessible"]
    assert "MasterUserPassword" not in properties


# A cluster's roles.


def test_each_service_account_names_the_role_that_trusts_it() -> None:
    role = resources("aws/irsa.yaml")["Role"]["Properties"]
    (trust,) = json.loads(role["AssumeRolePolicyDocument"]["Sub"])["Statement"]
    assert trust["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert trust["Condition"] == {
        "StringEquals": {
            "${Issuer}:aud": "sts.amazonaws.com",
            "${Issuer}:sub": "system:serviceaccount:${Namespace}:${Account}",
        }
    }
    template = yaml.load((INFRA / "aws" / "irsa.yaml").read_text(), Template)
    namespace = template["Parameters"]["Namespace"]["Default"]
    named = 0
    for name, account in of(overlay("production"), "ServiceAccount").items():
        arn = account["metadata"].get("annotations", {}).get("eks.amazonaws.com/role-arn")
        if arn:
            named += 1
            assert account["metadata"]["namespace"] == namespace
            assert arn.rpartition("/")[2] == role["RoleName"]["Sub"].replace("${Account}", name)
    assert named >= 5


def test_clusters_operators_may_look_at_what_they_are_asked_to() -> None:
    found = resources("aws/cluster-access.yaml")

    def statement(policy: str) -> dict[str, Any]:
        (only,) = found[policy]["Properties"]["PolicyDocument"]["Statement"]
        return only

    count, read = statement("Keda"), statement("ExternalSecrets")
    assert count["Action"] == "sqs:GetQueueAttributes"
    assert read["Action"] == "secretsmanager:GetSecretValue"
    allowed = {each["Sub"].rpartition(":")[2] for each in count["Resource"]}
    asked = {
        trigger["metadata"]["queueURL"].rpartition("/")[2]
        for scaled in of(overlay("production"), "ScaledObject").values()
        for trigger in scaled["spec"]["triggers"]
        if trigger["type"] == "aws-sqs-queue"
    }
    assert {right for right in allowed if any(fnmatchcase(one, right) for one in asked)} == allowed
    assert all(any(fnmatchcase(one, right) for right in allowed) for one in asked)
    secrets = (INFRA / "k8s/components/external-secrets/secrets.yaml").read_text()
    keys = re.findall(r"extract: {key: (.+)}", secrets)
    assert keys
    for key in keys:
        assert fnmatchcase(f"secret:{key}", f"secret:{read['Resource']['Sub'].rpartition(':')[2]}")


STAND_IN = """#!/bin/bash
echo "$(basename "$0") $*" >> "$CALLS"
case "$(basename "$0") $*" in
  "docker info"*) grep -q "docker swarm init" "$CALLS" && echo active || echo inactive ;;
  curl*/local-ipv4*) echo 10.0.0.5 ;;
  curl*) echo token ;;
esac
"""


def test_user_data_makes_a_swarm_once(tmp_path: Path) -> None:
    data = resources("ec2/host.yaml")["LaunchTemplate"]["Properties"]["LaunchTemplateData"]
    script = data["UserData"]["Fn::Base64"]["Sub"]
    script = re.sub(r"\$\{[A-Za-z:]+\}", "given", script)
    programs = ("dnf", "systemctl", "usermod", "docker", "curl", "cfn-signal")
    for name in programs:
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o700)
    script = script.replace("/opt/aws/bin/cfn-signal", "cfn-signal")
    script = script.replace("/etc/", f"{tmp_path}/etc/")
    (tmp_path / "etc" / "systemd" / "system").mkdir(parents=True)
    calls = tmp_path / "calls"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls)}
    for _ in range(2):
        subprocess.run(["bash", "-c", script], env=environment, check=True)
    called = calls.read_text().splitlines()
    (initiated,) = [call for call in called if call.startswith("docker swarm init")]
    assert initiated.startswith("docker swarm init --advertise-addr 10.0.0.5 ")
    assert len([call for call in called if call.startswith("cfn-signal --exit-code 0")]) == 2
    assert json.loads((tmp_path / "etc" / "docker" / "daemon.json").read_text())["log-opts"]
    timer = "systemctl enable --now docker-images.timer"
    assert called.index("systemctl daemon-reload") < called.index(timer)
    # And what goes wrong is told to CloudFormation.
    (tmp_path / "dnf").write_text("#!/bin/bash\nexit 3\n")
    ended = subprocess.run(["bash", "-c", script], env=environment, check=False)
    assert ended.returncode == 3
    assert calls.read_text().splitlines()[-1].startswith("cfn-signal --exit-code 3")
