"""Replaces moto's operations of CloudFormation on stacks and change sets.

moto's change sets lose outputs, fail requests about deleted ones, and do not detect
that a template has no changes.
"""

import json

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import AlreadyExistsException, CloudFormationError, ValidationError
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.moto_api._internal import mock_random
from moto.utilities.utils import get_partition

import resources
import stacks
import templates

NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."

# CloudFormation's placeholder for a value that is not known before the deployment.
UNKNOWN = "{{changeSet:KNOWN_AFTER_APPLY}}"

# The parts of a resource that a change set compares, besides the properties.
ATTRIBUTES = ("Metadata", "DeletionPolicy", "UpdateReplacePolicy", "CreationPolicy", "UpdatePolicy")

# The parameters that the local AWS does not support, with the values that it accepts because they change nothing.
# ImportExistingResources, which the bootstrap sets, is ignored: a resource that exists still fails the deployment.
UNSUPPORTED = {
    "DeletionMode": ("STANDARD",),
    "DeploymentConfig.DisableRollback": ("false",),
    "DeploymentConfig.Mode": ("STANDARD",),
    "DeploymentMode": (),
    "DisableRollback": ("false",),
    "ForceRollback": ("false",),
    "OnFailure": ("ROLLBACK",),
    "OnStackFailure": ("ROLLBACK",),
    "ResourceTypes.member.1": (),
    "ResourcesToImport.member.1.ResourceType": (),
    "RetainExceptOnCreate": ("false",),
    "RollbackConfiguration.MonitoringTimeInMinutes": ("0",),
    "RollbackConfiguration.RollbackTriggers.member.1.Arn": (),
    "StackPolicyBody": (),
    "StackPolicyDuringUpdateBody": (),
    "StackPolicyDuringUpdateURL": (),
    "StackPolicyURL": (),
    "TimeoutInMinutes": (),
}


class ChangeSetNotFound(CloudFormationError):
    code = "ChangeSetNotFound"

    def __init__(self, name):
        super().__init__(f"ChangeSet [{name}] does not exist")


class InvalidChangeSetStatus(CloudFormationError):
    code = "InvalidChangeSetStatus"


class Unknown:
    """A resource that the deployment has not made yet."""

    physical_resource_id = UNKNOWN

    def get_cfn_attribute(self, name):
        return UNKNOWN


class ChangeSet:
    def __init__(self, name, kind, deployment, described):
        stack = deployment.stack
        region, account = stack.region_name, stack.account_id
        self.id = f"arn:{get_partition(region)}:cloudformation:{region}:{account}:changeSet/{name}/{mock_random.uuid4()}"
        self.name, self.kind, self.deployment, self.stack = name, kind, deployment, stack
        self.changes, has_changes = changes(deployment)
        empty = kind == "UPDATE" and not has_changes
        self.described = {
            "ChangeSetId": self.id,
            "ChangeSetName": name,
            "StackId": stack.stack_id,
            "StackName": stack.name,
            "CreationTime": utcnow(),
            "Status": "FAILED" if empty else "CREATE_COMPLETE",
            "StatusReason": NO_CHANGES if empty else None,
            "ExecutionStatus": "UNAVAILABLE" if empty else "AVAILABLE",
            "IncludeNestedStacks": False,
            **described,
        }

    def full(self, with_values):
        to = self.deployment
        return self.described | {
            "Changes": [{"Type": "Resource", "ResourceChange": change(with_values)} for change in self.changes],
            "Parameters": templates.parameter_list(to.template, to.parameters, to.new),
            "Tags": [{"Key": key, "Value": value} for key, value in to.tags.items()],
            "NotificationARNs": to.notification_arns,
        }


def changes(deployment):
    """Returns the changes that a deployment would make to resources, and whether it would change anything at all.

    Each change is a function that describes it, with or without values."""
    preview = stacks.resource_map(deployment.stack, deployment.template, deployment.parameters)
    found = []
    for name in deployment.order:
        if not deployment.wanted(name):
            continue
        definition, existing = deployment.definition(name), deployment.existing(name)
        if existing is None:
            preview._parsed_resources[name] = Unknown()
            found.append(added(name, definition, preview))
            continue
        preview._parsed_resources[name] = existing
        before, after = deployment.old.deployed[name], previewed(definition, preview)
        changed = stacks.differing(before, after)
        replacing = resources.replacing(definition["Type"], changed)
        old = deployment.old._resource_json_map[name]
        attributes = [attribute for attribute in ATTRIBUTES if old.get(attribute) != definition.get(attribute)]
        if changed or attributes:
            found.append(modified(name, existing, old, definition, before, after, changed, replacing, attributes))
        if replacing:
            preview._parsed_resources[name] = Unknown()
    for name in reversed(list(deployment.old.deployed)):
        if (existing := deployment.existing(name)) is not None and name not in preview._parsed_resources:
            found.append(removed(name, existing, deployment.old._resource_json_map[name], deployment.old.deployed[name]))
    stack = deployment.stack
    has_changes = (
        found
        or outputs(stack.template_dict, stack.resource_map) != outputs(deployment.template, preview)
        or stack.tags != deployment.tags
        or stack.notification_arns != deployment.notification_arns
    )
    return found, bool(has_changes)


def outputs(template, resources_map):
    return {
        name: previewed({"Properties": output}, resources_map)
        for name, output in (template.get("Outputs") or {}).items()
        if not output.get("Condition") or resources_map.lazy_condition_map[output["Condition"]]
    }


def previewed(definition, preview):
    """Returns the properties that a resource will have, as far as they are known before the deployment."""

    def value_of(value):
        try:
            return resources.without_no_value(parsing.clean_json(value, preview))
        except Exception:
            return UNKNOWN  # it is a part of a value that is not known yet

    properties = definition.get("Properties") or {}
    if any(key == "Fn::If" for key in properties):
        return value_of(properties)
    values = {name: value_of(value) for name, value in properties.items()}
    return {name: value for name, value in values.items() if value is not None}


def context(definition, properties):
    return json.dumps({"Properties": properties} | {a: definition[a] for a in ATTRIBUTES if a in definition}, default=str)


def added(name, definition, preview):
    properties = previewed(definition, preview)

    def describe(with_values):
        change = {"Action": "Add", "LogicalResourceId": name, "ResourceType": definition["Type"], "Scope": [], "Details": []}
        return change | ({"AfterContext": context(definition, properties)} if with_values else {})

    return describe


def removed(name, existing, definition, properties):
    retained = definition.get("DeletionPolicy", "Delete").startswith("Retain")

    def describe(with_values):
        change = {
            "PolicyAction": "Retain" if retained else "Delete",
            "Action": "Remove",
            "LogicalResourceId": name,
            "PhysicalResourceId": resources.physical_id(existing),
            "ResourceType": existing.cf_resource_type,
            "Scope": [],
            "Details": [],
        }
        return change | ({"BeforeContext": context(definition, properties)} if with_values else {})

    return describe


def modified(name, existing, old, definition, before, after, changed, replacing, attributes):
    def detail(attribute, prop, recreation, was, is_, with_values):
        target = {"Attribute": attribute, "RequiresRecreation": recreation} | ({"Name": prop} if prop else {})
        if with_values:
            target["Path"] = f"/{attribute}/{prop}" if prop else f"/{attribute}"
            target["AttributeChangeType"] = "Add" if was is None else "Remove" if is_ is None else "Modify"
            target |= {key: as_text(value) for key, value in (("BeforeValue", was), ("AfterValue", is_)) if value is not None}
        known = UNKNOWN not in json.dumps(is_, default=str)
        return {"Target": target, "Evaluation": "Static" if known else "Dynamic", "ChangeSource": "DirectModification"}

    def describe(with_values):
        details = [
            detail("Properties", p, "Always" if p in replacing else "Never", before.get(p), after.get(p), with_values)
            for p in changed
        ] + [detail(a, None, "Never", old.get(a), definition.get(a), with_values) for a in attributes]
        kept = definition.get("UpdateReplacePolicy", "Delete").startswith("Retain")
        change = {
            "Action": "Modify",
            "LogicalResourceId": name,
            "PhysicalResourceId": resources.physical_id(existing),
            "ResourceType": existing.cf_resource_type,
            "Replacement": "True" if replacing else "False",
            "Scope": (["Properties"] if changed else []) + attributes,
            "Details": details,
        }
        if replacing:
            change["PolicyAction"] = "ReplaceAndRetain" if kept else "ReplaceAndDelete"
        if with_values:
            change |= {"BeforeContext": context(old, before), "AfterContext": context(definition, after)}
        return change

    return describe


def as_text(value):
    return value if isinstance(value, str) else json.dumps(value, default=str)


def find(backend, name, stack_name):
    """Returns the change set with an ARN, or with a name in a stack."""
    if name in backend.change_sets:
        return backend.change_sets[name]
    if name.startswith("arn:"):
        raise ChangeSetNotFound(name)
    if not stack_name:
        raise ValidationError(message="StackName must be specified if ChangeSetName is not specified as an ARN.")
    stack = stacks.stack_of(backend, stack_name)
    for change_set in backend.change_sets.values():
        if change_set.stack is stack and change_set.name == name:
            return change_set
    raise ChangeSetNotFound(name)


def refuse_unsupported(response):
    for name, accepted in UNSUPPORTED.items():
        value = (response.querystring.get(name) or [""])[0]
        if value and value not in accepted:
            raise ValidationError(message=f"the local AWS does not support {name.split('.member')[0]} ({value}): leave it out")


def flag(response, name):
    return str(response._get_param(name, False)).lower() == "true"


def request(response, stack):
    """Returns the template, the parameters, the tags and the topics of a request about a stack."""
    refuse_unsupported(response)
    text, url = response._get_param("TemplateBody"), response._get_param("TemplateURL")
    if flag(response, "UsePreviousTemplate"):
        text = stack.template if stack else None
    elif url:
        text = response._get_stack_from_s3_url(url)
    if not text:
        raise ValidationError(message="Either Template URL or Template Body must be specified.")
    given = {p["ParameterKey"]: None if p.get("UsePreviousValue") else p["ParameterValue"] for p in response._get_param("Parameters", [])}
    tags = {tag["Key"]: tag["Value"] for tag in response._get_param("Tags", [])}
    # A request without tags or topics keeps those of the stack.
    return text, given, tags or None, response._get_param("NotificationARNs") or None


def create_stack(self):
    backend = self.cloudformation_backend
    text, given, tags, topics = request(self, None)
    stack = stacks.new_stack(backend, self._get_param("StackName"), tags=tags, role_arn=self._get_param("RoleARN"))
    stack.enable_termination_protection = flag(self, "EnableTerminationProtection")
    try:
        deployment = stacks.Deployment(stack, text, given, tags, topics)
    except Exception:
        del backend.stacks[stack.stack_id]
        raise
    stacks.claim(stack, "CREATE_IN_PROGRESS")
    stacks.begin(deployment.carry_out, "CREATE")
    return ActionResult({"StackId": stack.stack_id})


def update_stack(self):
    stack = updatable_stack(self.cloudformation_backend, self._get_param("StackName"))
    deployment = stacks.Deployment(stack, *request(self, stack))
    if not changes(deployment)[1]:
        raise ValidationError(message="No updates are to be performed.")
    stacks.claim(stack, "UPDATE_IN_PROGRESS")
    stacks.begin(deployment.carry_out, "UPDATE")
    return ActionResult({"StackId": stack.stack_id})


def updatable_stack(backend, name):
    """Returns a stack, and raises ValidationError if its status does not allow an update."""
    stack = stacks.stack_of(backend, name)
    if stack.status not in stacks.DEPLOYABLE or stack.status == "REVIEW_IN_PROGRESS":
        raise ValidationError(message=f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated.")
    return stack


def delete_stack(self):
    refuse_unsupported(self)
    backend = self.cloudformation_backend
    try:
        stack = backend.get_stack(self._get_param("StackName"))
    except ValidationError:
        return EmptyResult()  # the deletion of a stack that does not exist succeeds
    if stack.enable_termination_protection:
        raise ValidationError(message=f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
    with stacks.LOCK:
        if stack.status == "DELETE_COMPLETE" or stack.status.endswith("_IN_PROGRESS") and stack.status != "REVIEW_IN_PROGRESS":
            return EmptyResult()
        stack.status = "DELETE_IN_PROGRESS"
    stacks.begin(stacks.delete, stack, self._get_param("RetainResources", []))
    return EmptyResult()


def continue_update_rollback(self):
    refuse_unsupported(self)
    stack = stacks.stack_of(self.cloudformation_backend, self._get_param("StackName"))
    with stacks.LOCK:
        if stack.status != "UPDATE_ROLLBACK_FAILED":
            raise ValidationError(
                message=f"Stack:{stack.stack_id} is in {stack.status} state and can not continue to roll back an update."
            )
        stack.status = "UPDATE_ROLLBACK_IN_PROGRESS"
    stacks.begin(stack.unfinished.continue_rollback, self._get_param("ResourcesToSkip", []))
    return EmptyResult()


def update_termination_protection(self):
    stack = stacks.stack_of(self.cloudformation_backend, self._get_param("StackName"))
    stack.enable_termination_protection = flag(self, "EnableTerminationProtection")
    return ActionResult({"StackId": stack.stack_id})


def create_change_set(self):
    backend, name = self.cloudformation_backend, self._get_param("ChangeSetName")
    stack_name, kind = self._get_param("StackName"), self._get_param("ChangeSetType", "UPDATE")
    existing = [stack for stack in backend.stacks.values() if stack_name in (stack.name, stack.stack_id)]
    if kind not in ("CREATE", "UPDATE"):
        raise ValidationError(message=f"the local AWS does not support ChangeSetType {kind}: use CREATE or UPDATE")
    if any(c.name == name and c.stack in existing for c in backend.change_sets.values()):
        raise AlreadyExistsException(f"ChangeSet {name} already exists")
    if kind == "UPDATE":
        stack = updatable_stack(backend, stack_name)
    elif existing and existing[0].status != "REVIEW_IN_PROGRESS":
        raise ValidationError(
            message=f"Stack [{stack_name}] already exists and cannot be created again with the changeSet [{name}]."
        )
    else:
        stack = existing[0] if existing else None
    requested = request(self, stack)
    made = stack is None
    if made:
        stack = stacks.new_stack(backend, stack_name, role_arn=self._get_param("RoleARN"))
    described = {
        "Description": self._get_param("Description"),
        "Capabilities": self._get_param("Capabilities", []),
        "IncludeNestedStacks": flag(self, "IncludeNestedStacks"),
    }
    try:
        change_set = ChangeSet(name, kind, stacks.Deployment(stack, *requested), described)
    except Exception:
        if made:
            del backend.stacks[stack.stack_id]
        raise
    if made:
        stacks.event(stack, "REVIEW_IN_PROGRESS", "User Initiated")
    backend.change_sets[change_set.id] = change_set
    return ActionResult({"Id": change_set.id, "StackId": stack.stack_id})


def describe_change_set(self):
    change_set = find(self.cloudformation_backend, self._get_param("ChangeSetName"), self._get_param("StackName"))
    return ActionResult(change_set.full(flag(self, "IncludePropertyValues")))


def list_change_sets(self):
    stack = stacks.stack_of(self.cloudformation_backend, self._get_param("StackName"))
    listed = [c.described for c in self.cloudformation_backend.change_sets.values() if c.stack is stack]
    return ActionResult({"Summaries": listed})


def delete_change_set(self):
    backend = self.cloudformation_backend
    try:
        change_set = find(backend, self._get_param("ChangeSetName"), self._get_param("StackName"))
    except ChangeSetNotFound:
        return EmptyResult()
    if change_set.described["ExecutionStatus"] == "EXECUTE_IN_PROGRESS":
        raise InvalidChangeSetStatus(f"ChangeSet [{change_set.id}] cannot be deleted in its current status")
    del backend.change_sets[change_set.id]
    return EmptyResult()


def execute_change_set(self):
    refuse_unsupported(self)
    change_set = find(self.cloudformation_backend, self._get_param("ChangeSetName"), self._get_param("StackName"))
    if (status := change_set.described["ExecutionStatus"]) != "AVAILABLE":
        raise InvalidChangeSetStatus(
            f"ChangeSet [{change_set.id}] cannot be executed in its current status of [{change_set.described['Status']}, {status}]"
        )
    stacks.claim(change_set.stack, f"{change_set.kind}_IN_PROGRESS", change_set)
    change_set.described["ExecutionStatus"] = "EXECUTE_IN_PROGRESS"

    def execute():
        done = change_set.deployment.carry_out(change_set.kind)
        change_set.described["ExecutionStatus"] = "EXECUTE_COMPLETE" if done else "EXECUTE_FAILED"

    stacks.begin(execute)
    return EmptyResult()


def get_template(self):
    backend = self.cloudformation_backend
    if name := self._get_param("ChangeSetName"):
        text = find(backend, name, self._get_param("StackName")).deployment.text
    else:
        text = stacks.stack_of(backend, self._get_param("StackName")).template
    # Transforms are refused, so both stages are the template that was sent.
    return ActionResult({"TemplateBody": text if isinstance(text, str) else "{}", "StagesAvailable": ["Original", "Processed"]})


def configure():
    for operation in (
        continue_update_rollback,
        create_change_set,
        create_stack,
        delete_change_set,
        delete_stack,
        describe_change_set,
        execute_change_set,
        get_template,
        list_change_sets,
        update_stack,
        update_termination_protection,
    ):
        setattr(CloudFormationResponse, operation.__name__, operation)
    for path in ("DescribeChangeSetOutput.Changes", "DescribeChangeSetOutput.Parameters"):
        del CloudFormationResponse.RESPONSE_KEY_PATH_TO_TRANSFORMER[path]
