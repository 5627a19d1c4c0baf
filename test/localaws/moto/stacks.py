"""Creates, updates and deletes stacks as CloudFormation does.

moto deletes before it creates, has no events of resources, and leaves a failed
deployment half done. Here a deployment handles the resources in the order of their
dependencies, changes those whose resolved properties differ, and deletes last. A
deployment that fails is rolled back.
"""

import datetime
import threading

from moto.cloudformation import models
from moto.cloudformation.exceptions import AlreadyExistsException, ValidationError
from moto.cloudformation.models import CloudFormationBackend, Stack, cloudformation_backends
from moto.cloudformation.parsing import ResourceMap
from moto.core.utils import utcnow

import resources
import templates
import updates

# A request waits this long for the operation that it started. So callers rarely poll. A longer operation continues.
ANSWER_AFTER_SECONDS = 30

LOCK = threading.Lock()

# The statuses in which a stack can be created or updated.
DEPLOYABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS")


def event(stack, status, reason=None, resource=None):
    """Adds an event: of a resource, given as (logical id, physical id, type), or of the stack."""
    logical_id, physical_id, resource_type = resource or (stack.name, stack.stack_id, "AWS::CloudFormation::Stack")
    added = models.Event(stack.stack_id, stack.name, logical_id, physical_id, resource_type, status, reason, None)
    if stack.events:
        # Events are ordered by millisecond, so each has its own.
        added.timestamp = max(added.timestamp, stack.events[-1].timestamp + datetime.timedelta(milliseconds=1))
    # The CDK CLI uses the operation ID to ignore failures of earlier operations. A rollback is an operation of its own.
    begins = resource is None and (reason == "User Initiated" or status.endswith("ROLLBACK_IN_PROGRESS"))
    added.operation_id = added.event_id if begins or not stack.events else stack.events[-1].operation_id
    added.sendToSns(stack.account_id, stack.region_name, stack.notification_arns)
    stack.events.append(added)
    if resource is None:
        stack.status, stack.stack_status_reason = status, reason


def reason_of(error):
    if isinstance(error, KeyError):
        return f"{type(error).__name__}: {error}"
    return getattr(error, "message", None) or str(error) or type(error).__name__


def backend_of(stack):
    return cloudformation_backends[stack.account_id][stack.region_name]


def resource_map(stack, template, parameters):
    made = ResourceMap(
        stack.stack_id,
        stack.name,
        parameters,
        {},
        region_name=stack.region_name,
        account_id=stack.account_id,
        template=template,
        cross_stack_resources=backend_of(stack).exports,
    )
    made.load()
    made.deployed = {}  # the resolved properties of each resource
    return made


def described(resource, logical_id):
    return logical_id, resources.physical_id(resource), resource.cf_resource_type


class Failed(Exception):
    """A resource could not be created or updated."""

    def __init__(self, verb, logical_id):
        super().__init__(f"The following resource(s) failed to {verb}: [{logical_id}]. ")


class Deployment:
    """Deploys a template with parameters to a stack. The constructor raises ValidationError for a template that
    CloudFormation refuses before it changes the stack."""

    def __init__(self, stack, text, given, tags=None, notification_arns=None):
        self.stack, self.text = stack, text
        self.tags = stack.tags if tags is None else tags
        self.notification_arns = stack.notification_arns if notification_arns is None else notification_arns
        self.template = Stack.parse_template(text)
        if not isinstance(self.template, dict) or not self.template.get("Resources"):
            raise ValidationError(message="Template format error: At least one Resources member must be defined.")
        if "Transform" in self.template:
            raise ValidationError(message="the local AWS does not support Transform in templates: deploy the transformed template")
        templates.check(self.template)
        self.parameters = templates.parameters_of(
            self.template, given, stack.parameters or {}, stack.account_id, stack.region_name
        )
        self.order = templates.in_dependency_order(self.template)
        self.old, self.new = stack.resource_map, resource_map(stack, self.template, self.parameters)
        retyped = [
            name
            for name in self.order
            if (existing := self.existing(name)) is not None and existing.cf_resource_type != self.definition(name)["Type"]
        ]
        if retyped:
            raise ValidationError(
                message="Update of resource type is not permitted. "
                f"The new template modifies resource type of the following resources: [{', '.join(retyped)}]"
            )
        self.done = []  # (made or updated, logical id, resource before, resource after), oldest first
        self.to_restore = []  # (logical id, resource) of the updates that a rollback has to undo

    def definition(self, name):
        return self.template["Resources"][name]

    def wanted(self, name):
        condition = self.definition(name).get("Condition")
        return not condition or self.new.lazy_condition_map[condition]

    def existing(self, name):
        return self.old._parsed_resources.get(name) if name in self.old._resource_json_map else None

    def outputs(self):
        return models.OutputMap(self.new, self.template, self.stack.stack_id)

    def carry_out(self, verb):
        """Carries out the deployment and returns whether it succeeded. The verb is CREATE or UPDATE."""
        stack = self.stack
        event(stack, f"{verb}_IN_PROGRESS", "User Initiated")
        stack.notification_arns = self.notification_arns
        try:
            for name in self.order:
                if self.wanted(name):
                    self.deploy(name)
            outputs = self.outputs()
            list(outputs.values())
            exports = self.exports(outputs)
        except Exception as error:
            self.roll_back(verb, reason_of(error))
            return False
        backend = backend_of(stack)
        for name in [name for name, export in backend.exports.items() if export.exporting_stack_id == stack.stack_id]:
            del backend.exports[name]
        backend.exports.update({export.name: export for export in exports})
        if verb == "UPDATE":
            self.clean_up()
            stack.last_updated_time = utcnow()
        stack.resource_map, stack.output_map = self.new, outputs
        stack.template, stack.template_dict, stack.description = self.text, self.template, self.template.get("Description")
        stack.parameters, stack.tags = self.parameters, self.tags
        event(stack, f"{verb}_COMPLETE")
        return True

    def exports(self, outputs):
        found = [
            export
            for name, export in zip([n for n in outputs if outputs._output_json_map[n].get("Export")], outputs.exports)
            if outputs[name]
        ]
        for export in found:
            other = backend_of(self.stack).exports.get(export.name)
            if other and other.exporting_stack_id != self.stack.stack_id:
                raise ValidationError(
                    message=f"Export with name {export.name} is already exported by stack {other.exporting_stack_id.split('/')[1]}."
                )
        return found

    def deploy(self, name):
        existing = self.existing(name)
        properties = {}
        try:
            properties = resources.resolved(self.definition(name), self.new)
            changed = [] if existing is None else differing(self.old.deployed[name], properties)
            if existing is not None and not resources.replacing(existing.cf_resource_type, changed):
                self.update_in_place(name, existing, properties, changed)
                return
        except Failed:
            raise
        except Exception as error:
            self.fail("create" if existing is None else "update", name, existing, error)
        verb = "create" if existing is None else "update"
        reason = None if existing is None else "Requested update requires the creation of a new physical resource; hence creating one."
        status = verb.upper()
        event(self.stack, f"{status}_IN_PROGRESS", reason, (name, resources.physical_id(existing), self.definition(name)["Type"]))
        try:
            made = self.new[name]
            if resources.physical_id(existing) and resources.physical_id(made) == resources.physical_id(existing):
                raise ValidationError(
                    message="CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                    f"Rename {resources.physical_id(existing)} and update the stack again."
                )
        except Exception as error:
            self.fail(verb, name, existing, error)
        self.new.deployed[name] = properties
        self.done.append(("made", name, existing, made))
        event(self.stack, f"{status}_COMPLETE", None, described(made, name))

    def update_in_place(self, name, existing, properties, changed):
        """Updates a resource in place, where its properties changed."""
        if changed:
            event(self.stack, "UPDATE_IN_PROGRESS", None, described(existing, name))
            try:
                updated = resources.update(name, existing, self.old.deployed[name], properties, self.new)
            except Exception as error:
                if not getattr(error, "untouched", False):
                    self.done.append(("updated", name, existing, existing))
                self.fail("update", name, existing, error)
            self.done.append(("updated", name, existing, updated))
            event(self.stack, "UPDATE_COMPLETE", None, described(updated, name))
            existing = updated
        self.new._parsed_resources[name], self.new.deployed[name] = existing, properties

    def fail(self, verb, name, existing, error):
        resource = (name, resources.physical_id(existing), self.definition(name)["Type"])
        event(self.stack, f"{verb.upper()}_FAILED", reason_of(error), resource)
        raise Failed(verb, name) from error

    def roll_back(self, verb, reason):
        stack = self.stack
        status = "ROLLBACK" if verb == "CREATE" else "UPDATE_ROLLBACK"
        event(stack, f"{status}_IN_PROGRESS", f"{reason.strip()} Rollback requested by user." if verb == "CREATE" else reason)
        self.to_restore = [(name, after) for what, name, _, after in reversed(self.done) if what == "updated"]
        self.restore()
        kept = {}
        for what, name, _, after in reversed(self.done):
            if what == "made":
                retained = self.definition(name).get("DeletionPolicy") == "Retain"
                if not self.remove(name, after, self.new.deployed[name], retained):
                    kept[name] = after
        if verb == "CREATE":
            # DeleteStack can still delete the resources whose deletion failed here.
            self.new._resource_json_map = {name: self.definition(name) for name in kept}
            self.new._parsed_resources = {k: v for k, v in self.new._parsed_resources.items() if k not in self.order or k in kept}
            stack.resource_map = self.new
            stack.template, stack.template_dict, stack.parameters = self.text, self.template, self.parameters
        failed, verb = (list(kept), "delete") if verb == "CREATE" else ([name for name, _ in self.to_restore], "update")
        if failed:
            event(stack, f"{status}_FAILED", f"The following resource(s) failed to {verb}: [{', '.join(failed)}]. ")
            stack.unfinished = self
        else:
            event(stack, f"{status}_COMPLETE")

    def restore(self, skipped=()):
        """Undoes the updates. Those that fail stay in to_restore."""
        failed = []
        for name, now in self.to_restore:
            if name in skipped:
                event(self.stack, "UPDATE_COMPLETE", "Resource skipped during UpdateRollback", described(now, name))
                continue
            event(self.stack, "UPDATE_IN_PROGRESS", None, described(now, name))
            try:
                old = self.old.deployed[name]
                self.old._parsed_resources[name] = resources.update(name, now, self.new.deployed.get(name, old), old, self.old)
                event(self.stack, "UPDATE_COMPLETE", None, described(now, name))
            except Exception as error:
                event(self.stack, "UPDATE_FAILED", reason_of(error), described(now, name))
                failed.append((name, now))
        self.to_restore = failed

    def continue_rollback(self, skipped):
        event(self.stack, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        self.restore(skipped)
        failed = ", ".join(name for name, _ in self.to_restore)
        if failed:
            event(self.stack, "UPDATE_ROLLBACK_FAILED", f"The following resource(s) failed to update: [{failed}]. ")
        else:
            event(self.stack, "UPDATE_ROLLBACK_COMPLETE")

    def clean_up(self):
        event(self.stack, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        for name in reversed(list(self.old.deployed)):
            existing, now = self.existing(name), self.new._parsed_resources.get(name)
            replaced = any(what == "made" and done == name for what, done, _, _ in self.done)
            if existing is None or now is not None and not replaced:
                continue
            policy = "DeletionPolicy" if now is None else "UpdateReplacePolicy"
            retained = self.old._resource_json_map[name].get(policy, "Delete").startswith("Retain")
            self.remove(name, existing, self.old.deployed[name], retained)

    def remove(self, name, resource, properties, retained):
        """Deletes a resource and returns whether it is gone from the stack."""
        return remove(self.stack, name, resource, properties, retained, self.old)


def differing(old, new):
    return [name for name in {**old, **new} if old.get(name) != new.get(name)]


def remove(stack, name, resource, properties, retained, resources_map):
    if retained:
        event(stack, "DELETE_SKIPPED", None, described(resource, name))
        return True
    event(stack, "DELETE_IN_PROGRESS", None, described(resource, name))
    try:
        resources.delete(name, resource, properties, resources_map)
    except Exception as error:
        event(stack, "DELETE_FAILED", reason_of(error), described(resource, name))
        return False
    event(stack, "DELETE_COMPLETE", None, described(resource, name))
    return True


def delete(stack, retained=()):
    """Deletes a stack with its resources and returns whether it is gone."""
    backend = backend_of(stack)
    event(stack, "DELETE_IN_PROGRESS", "User Initiated")
    failed = []
    resources_map = stack.resource_map
    for name in reversed(list(getattr(resources_map, "deployed", {}))):
        resource = resources_map._parsed_resources.get(name)
        if resource is None:
            continue
        policy = resources_map._resource_json_map.get(name, {}).get("DeletionPolicy", "Delete")
        if not remove(
            stack, name, resource, resources_map.deployed[name], name in retained or policy.startswith("Retain"), resources_map
        ):
            failed.append(name)
            continue
        del resources_map._parsed_resources[name], resources_map.deployed[name]
    if failed:
        event(stack, "DELETE_FAILED", f"The following resource(s) failed to delete: [{', '.join(failed)}]. ")
        return False
    for name in [name for name, export in backend.exports.items() if export.exporting_stack_id == stack.stack_id]:
        del backend.exports[name]
    drop_change_sets(stack)
    backend.stacks.pop(stack.stack_id, None)
    backend.deleted_stacks[stack.stack_id] = stack
    event(stack, "DELETE_COMPLETE")
    return True


def begin(work, *args):
    """Starts an operation and waits for its end, at most ANSWER_AFTER_SECONDS."""
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    thread.join(ANSWER_AFTER_SECONDS)


def claim(stack, status, executed=None):
    """Sets the status of a stack, and raises ValidationError if another operation works on it. Deletes all change sets
    but the executed one: they describe changes to the old stack."""
    with LOCK:
        if stack.status not in DEPLOYABLE:
            raise ValidationError(message=f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated.")
        stack.status = status
    drop_change_sets(stack, executed)


def drop_change_sets(stack, kept=None):
    sets = backend_of(stack).change_sets
    for change_set in [c for c in sets.values() if c.stack is stack and c is not kept]:
        del sets[change_set.id]


def new_stack(backend, name, **more):
    """Adds a stack without resources."""
    with LOCK:
        if any(stack.name == name for stack in backend.stacks.values()):
            raise AlreadyExistsException(f"Stack [{name}] already exists")
        stack = Stack(
            stack_id=models.generate_stack_id(name, backend.region_name, backend.account_id),
            name=name,
            template={},
            parameters={},
            account_id=backend.account_id,
            region_name=backend.region_name,
            cross_stack_resources=backend.exports,
            **more,
        )
        stack.status, stack.resource_map.deployed = "REVIEW_IN_PROGRESS", {}
        backend.stacks[stack.stack_id] = stack
        return stack


def stack_of(backend, name):
    """Returns a stack by its name or ID. A deleted one has only its ID."""
    try:
        return backend.get_stack(name)
    except ValidationError:
        raise ValidationError(message=f"Stack [{name}] does not exist") from None


def create_stack(backend, name, template, parameters, **more):
    """Replaces moto's create_stack, which nested stacks call. It returns when the stack is complete."""
    given = {key: templates.as_text(value) for key, value in parameters.items()}
    stack = new_stack(backend, name, **more)
    try:
        deployment = Deployment(stack, template, given)
    except Exception:
        del backend.stacks[stack.stack_id]
        raise
    if not deployment.carry_out("CREATE"):
        raise ValidationError(message=f"Embedded stack {stack.stack_id} was not successfully created: {reasons(stack)}")
    return stack


def delete_stack(backend, name):
    stack = backend.get_stack(name)
    if stack.status != "DELETE_COMPLETE" and not delete(stack):
        raise ValidationError(message=f"Embedded stack {stack.stack_id} was not successfully deleted: {reasons(stack)}")


def update_nested(original_resource, cloudformation_json, account_id, region_name, **_):
    wanted = cloudformation_json["Properties"]
    text = models.get_stack_from_s3_url(wanted["TemplateURL"], account_id=account_id, partition=models.get_partition(region_name))
    given = {key: templates.as_text(value) for key, value in wanted.get("Parameters", {}).items()}
    deployment = Deployment(original_resource, text, given)
    claim(original_resource, "UPDATE_IN_PROGRESS")
    if not deployment.carry_out("UPDATE"):
        raise ValidationError(
            message=f"Embedded stack {original_resource.stack_id} was not successfully updated: {reasons(original_resource)}"
        )
    return original_resource


def reasons(stack):
    """Returns the reasons for which resources of a stack failed."""
    found = [f"{e.logical_resource_id}: {e.resource_status_reason}" for e in stack.events if e.resource_status.endswith("_FAILED")]
    return "; ".join(found) or stack.stack_status_reason


def configure():
    updates.IN_PLACE["AWS::CloudFormation::Stack"] = update_nested
    CloudFormationBackend.create_stack, CloudFormationBackend.delete_stack = create_stack, delete_stack
    Stack.parameter_list = property(lambda s: templates.parameter_list(s.template_dict, s.parameters, s.resource_map))
    # moto's own property would create the resources that do not exist.
    Stack.stack_resources = property(
        lambda stack: [
            stack.resource_map._parsed_resources[name]
            for name in stack.resource_map._resource_json_map
            if name in stack.resource_map._parsed_resources
        ]
    )
