"""Stacks that are created, updated and deleted as CloudFormation does.

moto deletes before it creates, tells of no resource, and leaves what fails half done.
Here a deployment goes through the resources in the order of their dependencies, changes
those whose resolved properties differ, and deletes last. What fails is rolled back.
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

# An operation that takes longer goes on after its answer. A shorter one is over by then, and nobody needs to poll.
ANSWER_AFTER_SECONDS = 30

LOCK = threading.Lock()

# What a stack can be in when it is created or updated.
DEPLOYABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS")


def event(stack, status, reason=None, resource=None):
    """Adds an event: of a resource, given as (logical id, physical id, type), or of the stack."""
    logical_id, physical_id, resource_type = resource or (stack.name, stack.stack_id, "AWS::CloudFormation::Stack")
    told = models.Event(stack.stack_id, stack.name, logical_id, physical_id, resource_type, status, reason, None)
    if stack.events:
        # No two at one millisecond, by which they are ordered.
        told.timestamp = max(told.timestamp, stack.events[-1].timestamp + datetime.timedelta(milliseconds=1))
    # By its operation the CDK CLI tells what failed now from what failed before; a rollback is one of its own.
    begins = resource is None and (reason == "User Initiated" or status.endswith("ROLLBACK_IN_PROGRESS"))
    told.operation_id = told.event_id if begins or not stack.events else stack.events[-1].operation_id
    told.sendToSns(stack.account_id, stack.region_name, stack.notification_arns)
    stack.events.append(told)
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
    """What kept a resource from being brought to what the template says."""

    def __init__(self, verb, logical_id):
        super().__init__(f"The following resource(s) failed to {verb}: [{logical_id}]. ")


class Deployment:
    """Brings a stack to a template with parameters. It raises ValidationError for what CloudFormation refuses at once."""

    def __init__(self, stack, text, given, tags=None, notification_arns=None):
        self.stack, self.text = stack, text
        self.tags = stack.tags if tags is None else tags
        self.notification_arns = stack.notification_arns if notification_arns is None else notification_arns
        self.template = Stack.parse_template(text)
        if not isinstance(self.template, dict) or not self.template.get("Resources"):
            raise ValidationError(message="Template format error: At least one Resources member must be defined.")
        if "Transform" in self.template:
            raise ValidationError(message="the local AWS does not follow Transform in templates: deploy what it makes of yours")
        templates.check(self.template)
        self.parameters = templates.parameters_of(
            self.template, given, stack.parameters or {}, stack.account_id, stack.region_name
        )
        self.order = templates.in_dependency_order(self.template)
        self.old, self.new = stack.resource_map, resource_map(stack, self.template, self.parameters)
        retyped = [
            name
            for name in self.order
            if (had := self.had(name)) is not None and had.cf_resource_type != self.definition(name)["Type"]
        ]
        if retyped:
            raise ValidationError(
                message="Update of resource type is not permitted. "
                f"The new template modifies resource type of the following resources: [{', '.join(retyped)}]"
            )
        self.done = []  # (what, logical id, resource before, resource after) in the order of doing
        self.back = []  # the logical ids and resources to update back

    def definition(self, name):
        return self.template["Resources"][name]

    def wanted(self, name):
        condition = self.definition(name).get("Condition")
        return not condition or self.new.lazy_condition_map[condition]

    def had(self, name):
        return self.old._parsed_resources.get(name) if name in self.old._resource_json_map else None

    def outputs(self):
        return models.OutputMap(self.new, self.template, self.stack.stack_id)

    def carry_out(self, verb):
        """Does it all, verb being CREATE or UPDATE, and returns whether it succeeded."""
        stack = self.stack
        event(stack, f"{verb}_IN_PROGRESS", "User Initiated")
        stack.notification_arns = self.notification_arns
        try:
            for name in self.order:
                if self.wanted(name):
                    self.bring(name)
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

    def bring(self, name):
        had = self.had(name)
        properties = {}
        try:
            properties = resources.resolved(self.definition(name), self.new)
            changed = [] if had is None else differing(self.old.deployed[name], properties)
            if had is not None and not resources.replacing(had.cf_resource_type, changed):
                self.keep(name, had, properties, changed)
                return
        except Failed:
            raise
        except Exception as error:
            self.fail("create" if had is None else "update", name, had, error)
        verb = "create" if had is None else "update"
        reason = None if had is None else "Requested update requires the creation of a new physical resource; hence creating one."
        status = verb.upper()
        event(self.stack, f"{status}_IN_PROGRESS", reason, (name, resources.physical_id(had), self.definition(name)["Type"]))
        try:
            made = self.new[name]
            if resources.physical_id(had) and resources.physical_id(made) == resources.physical_id(had):
                raise ValidationError(
                    message="CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                    f"Rename {resources.physical_id(had)} and update the stack again."
                )
        except Exception as error:
            self.fail(verb, name, had, error)
        self.new.deployed[name] = properties
        self.done.append(("made", name, had, made))
        event(self.stack, f"{status}_COMPLETE", None, described(made, name))

    def keep(self, name, had, properties, changed):
        """Updates a resource in place, where its properties changed."""
        if changed:
            event(self.stack, "UPDATE_IN_PROGRESS", None, described(had, name))
            try:
                updated = resources.update(name, had, self.old.deployed[name], properties, self.new)
            except Exception as error:
                if not getattr(error, "untouched", False):
                    self.done.append(("updated", name, had, had))
                self.fail("update", name, had, error)
            self.done.append(("updated", name, had, updated))
            event(self.stack, "UPDATE_COMPLETE", None, described(updated, name))
            had = updated
        self.new._parsed_resources[name], self.new.deployed[name] = had, properties

    def fail(self, verb, name, had, error):
        resource = (name, resources.physical_id(had), self.definition(name)["Type"])
        event(self.stack, f"{verb.upper()}_FAILED", reason_of(error), resource)
        raise Failed(verb, name) from error

    def roll_back(self, verb, reason):
        stack = self.stack
        status = "ROLLBACK" if verb == "CREATE" else "UPDATE_ROLLBACK"
        event(stack, f"{status}_IN_PROGRESS", f"{reason.strip()} Rollback requested by user." if verb == "CREATE" else reason)
        self.back = [(name, after) for what, name, _, after in reversed(self.done) if what == "updated"]
        self.restore()
        kept = {}
        for what, name, _, after in reversed(self.done):
            if what == "made":
                retained = self.definition(name).get("DeletionPolicy") == "Retain"
                if not self.remove(name, after, self.new.deployed[name], retained):
                    kept[name] = after
        if verb == "CREATE":
            # What could not be deleted is left for DeleteStack.
            self.new._resource_json_map = {name: self.definition(name) for name in kept}
            self.new._parsed_resources = {k: v for k, v in self.new._parsed_resources.items() if k not in self.order or k in kept}
            stack.resource_map = self.new
            stack.template, stack.template_dict, stack.parameters = self.text, self.template, self.parameters
        left, verb = (list(kept), "delete") if verb == "CREATE" else ([name for name, _ in self.back], "update")
        if left:
            event(stack, f"{status}_FAILED", f"The following resource(s) failed to {verb}: [{', '.join(left)}]. ")
            stack.unfinished = self
        else:
            event(stack, f"{status}_COMPLETE")

    def restore(self, skipped=()):
        """Updates back what was updated, and keeps what fails for another try."""
        failed = []
        for name, now in self.back:
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
        self.back = failed

    def continue_rollback(self, skipped):
        event(self.stack, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        self.restore(skipped)
        left = ", ".join(name for name, _ in self.back)
        if left:
            event(self.stack, "UPDATE_ROLLBACK_FAILED", f"The following resource(s) failed to update: [{left}]. ")
        else:
            event(self.stack, "UPDATE_ROLLBACK_COMPLETE")

    def clean_up(self):
        event(self.stack, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        for name in reversed(list(self.old.deployed)):
            had, now = self.had(name), self.new._parsed_resources.get(name)
            replaced = any(what == "made" and done == name for what, done, _, _ in self.done)
            if had is None or now is not None and not replaced:
                continue
            policy = "DeletionPolicy" if now is None else "UpdateReplacePolicy"
            retained = self.old._resource_json_map[name].get(policy, "Delete").startswith("Retain")
            self.remove(name, had, self.old.deployed[name], retained)

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
    left = []
    resources_map = stack.resource_map
    for name in reversed(list(getattr(resources_map, "deployed", {}))):
        resource = resources_map._parsed_resources.get(name)
        if resource is None:
            continue
        policy = resources_map._resource_json_map.get(name, {}).get("DeletionPolicy", "Delete")
        if not remove(
            stack, name, resource, resources_map.deployed[name], name in retained or policy.startswith("Retain"), resources_map
        ):
            left.append(name)
            continue
        del resources_map._parsed_resources[name], resources_map.deployed[name]
    if left:
        event(stack, "DELETE_FAILED", f"The following resource(s) failed to delete: [{', '.join(left)}]. ")
        return False
    for name in [name for name, export in backend.exports.items() if export.exporting_stack_id == stack.stack_id]:
        del backend.exports[name]
    drop_change_sets(stack)
    backend.stacks.pop(stack.stack_id, None)
    backend.deleted_stacks[stack.stack_id] = stack
    event(stack, "DELETE_COMPLETE")
    return True


def begin(work, *args):
    """Carries out an operation, and returns when it is over or takes long."""
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    thread.join(ANSWER_AFTER_SECONDS)


def claim(stack, status, executed=None):
    """Makes sure that one operation at a time works on a stack. Change sets but the executed one are for a stack that is no more."""
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
    """A stack by its name or id, a deleted one by its id only."""
    try:
        return backend.get_stack(name)
    except ValidationError:
        raise ValidationError(message=f"Stack [{name}] does not exist") from None


def create_stack(backend, name, template, parameters, **more):
    """Stands in for moto's, as nested stacks call it: it returns when the stack is complete."""
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
    """Why the resources of a stack failed."""
    found = [f"{e.logical_resource_id}: {e.resource_status_reason}" for e in stack.events if e.resource_status.endswith("_FAILED")]
    return "; ".join(found) or stack.stack_status_reason


def configure():
    updates.IN_PLACE["AWS::CloudFormation::Stack"] = update_nested
    CloudFormationBackend.create_stack, CloudFormationBackend.delete_stack = create_stack, delete_stack
    Stack.parameter_list = property(lambda s: templates.parameter_list(s.template_dict, s.parameters, s.resource_map))
    # moto makes what is not there as soon as somebody asks.
    Stack.stack_resources = property(
        lambda stack: [
            stack.resource_map._parsed_resources[name]
            for name in stack.resource_map._resource_json_map
            if name in stack.resource_map._parsed_resources
        ]
    )
