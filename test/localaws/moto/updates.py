"""Updates in place the resource types that moto updates only in part, by deletion, or not at all."""

import json

from moto.iam.models import iam_backends
from moto.utilities.utils import get_partition


def queue(original_resource, cloudformation_json, **_):
    wanted = cloudformation_json["Properties"]
    defaults = {"DelaySeconds": 0, "KmsDataKeyReusePeriodSeconds": 300, "KmsMasterKeyId": None, "MaximumMessageSize": 1 << 20}
    defaults |= {"MessageRetentionPeriod": 4 * 86400, "ReceiveMessageWaitTimeSeconds": 0, "VisibilityTimeout": 30}
    defaults |= {"ContentBasedDeduplication": "false", "SqsManagedSseEnabled": True, "RedrivePolicy": {}}
    attributes = {name: wanted.get(name, default) for name, default in defaults.items()}
    original_resource._set_attributes(attributes)
    original_resource.tags = {tag["Key"]: tag["Value"] for tag in wanted.get("Tags", [])}
    return original_resource


def role(original_resource, cloudformation_json, account_id, region_name, **_):
    wanted = cloudformation_json["Properties"]
    backend = iam_backends[account_id][get_partition(region_name)]
    name = original_resource.name
    original_resource.assume_role_policy_document = text(wanted["AssumeRolePolicyDocument"])
    original_resource.description = wanted.get("Description", "")
    original_resource.max_session_duration = wanted.get("MaxSessionDuration", 3600)
    original_resource.permissions_boundary_arn = wanted.get("PermissionsBoundary")
    attached = set(original_resource.managed_policies)
    for arn in attached - set(wanted.get("ManagedPolicyArns", [])):
        backend.detach_role_policy(arn, name)
    for arn in set(wanted.get("ManagedPolicyArns", [])) - attached:
        backend.attach_role_policy(arn, name)
    # The role also lists the policies of AWS::IAM::Policy resources. They stay.
    of_others = {policy.policy_name for policy in backend.inline_policies.values() if name in (policy.role_names or [])}
    for policy_name in set(original_resource.policies) - of_others:
        original_resource.delete_policy(policy_name)
    for policy in wanted.get("Policies", []):
        original_resource.put_policy(policy["PolicyName"], text(policy["PolicyDocument"]))
    return original_resource


def topic(original_resource, cloudformation_json, **_):
    wanted = cloudformation_json["Properties"]
    original_resource.display_name = wanted.get("DisplayName", "")
    original_resource.kms_master_key_id = wanted.get("KmsMasterKeyId", "")
    original_resource.tracing_config = wanted.get("TracingConfig", "PassThrough")
    original_resource.content_based_deduplication = str(wanted.get("ContentBasedDeduplication", "false")).lower()
    return original_resource


def table(original_resource, cloudformation_json, **_):
    wanted = cloudformation_json["Properties"]
    ttl = wanted.get("TimeToLiveSpecification") or {}
    enabled = str(ttl.get("Enabled", False)).lower() == "true"
    original_resource.ttl = {"TimeToLiveStatus": "ENABLED" if enabled else "DISABLED"}
    if enabled:
        original_resource.ttl["AttributeName"] = ttl["AttributeName"]
    original_resource.billing_mode = wanted.get("BillingMode", "PROVISIONED")
    original_resource.deletion_protection_enabled = str(wanted.get("DeletionProtectionEnabled", False)).lower() == "true"
    return original_resource


def bucket(original_resource, **_):
    return original_resource


def log_group(original_resource, cloudformation_json, **_):
    original_resource.retention_in_days = cloudformation_json["Properties"].get("RetentionInDays")
    return original_resource


def key(original_resource, cloudformation_json, **_):
    wanted = cloudformation_json["Properties"]
    original_resource.policy = text(wanted["KeyPolicy"])
    original_resource.description = wanted.get("Description", "")
    return original_resource


def text(document):
    return document if isinstance(document, str) else json.dumps(document)


# The update function of each type. It gets the arguments of moto's update_from_cloudformation_json.
IN_PLACE = {
    "AWS::DynamoDB::Table": table,
    "AWS::IAM::Role": role,
    "AWS::KMS::Key": key,
    "AWS::Logs::LogGroup": log_group,
    "AWS::S3::Bucket": bucket,
    "AWS::SNS::Topic": topic,
    "AWS::SQS::Queue": queue,
}
