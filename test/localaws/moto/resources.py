"""Creates, updates and deletes the resources of stacks, with moto's models or through the provider.

moto skips a resource type that it does not know and still reports the stack as
complete. Here each type that is not native is requested from the provider, with
resolved properties. The answer's PhysicalResourceId and Data become Ref and
Fn::GetAtt. A refusal fails the resource. The provider is also notified of the
resources that moto makes itself, and may refuse them.
"""

import functools
import json
import urllib.request

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.core.common_models import CloudFormationModel

import updates

# A custom resource's function may run for 15 minutes.
PROVIDER_TIMEOUT_SECONDS = 16 * 60


class Settings:
    provider_url = ""
    native = {}  # resource types that moto makes, and their models
    replacing = {}  # resource types, and the properties whose change replaces the resource


class Refused(ValidationError):
    """The provider refused a request. untouched says that the resource is as before."""

    def __init__(self, reason, untouched):
        super().__init__(message=reason)
        self.untouched = untouched


def configure(provider_url, native, replacing):
    # Read the map first: it would also have the models that provided() makes.
    Settings.native = {name: model for name, model in parsing.get_model_map().items() if name in native}
    Settings.provider_url = provider_url
    Settings.replacing = replacing
    parsing.resource_class_from_type = lambda resource_type: Settings.native.get(resource_type) or provided(resource_type)
    parsing.parse_and_create_resource = observed(parsing.parse_and_create_resource)


def ask(request):
    """Posts a request to the provider and returns its answer."""
    post = urllib.request.Request(
        Settings.provider_url, json.dumps(request, default=str).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(post, timeout=PROVIDER_TIMEOUT_SECONDS) as response:
            answer = json.load(response)
    except (OSError, ValueError) as error:
        raise Refused(f"no answer from the resource provider: {error}", False) from error
    if answer.get("Status") == "FAILED":
        raise Refused(answer.get("Reason"), answer.get("Untouched", False))
    return answer


@functools.cache
def provided(resource_type):
    """Makes the model class of a type that the provider knows or refuses."""

    class Provided(CloudFormationModel):
        __module__ = "moto.cloudformation.provided"  # moto registers a model under the second part

        def __init__(self, stack_id, account_id, region, properties):
            self.stack_id = stack_id
            self.account_id = account_id
            self.region = region
            self.properties = properties
            self.physical_resource_id = None
            self.data = {}

        def request(self, kind, logical_id, physical_id, **more):
            answer = ask(
                {
                    "RequestType": kind,
                    "ResourceType": resource_type,
                    "StackId": self.stack_id,
                    "LogicalResourceId": logical_id,
                    "PhysicalResourceId": physical_id,
                    "ResourceProperties": self.properties,
                    "AccountId": self.account_id,
                    "Region": self.region,
                    **more,
                }
            )
            self.physical_resource_id = answer.get("PhysicalResourceId")
            self.data = answer.get("Data") or {}
            return self

        @staticmethod
        def cloudformation_name_type():
            return ""

        @staticmethod
        def cloudformation_type():
            return resource_type

        @classmethod
        def has_cfn_attr(cls, attr):
            return True  # get_cfn_attribute checks the name when the resource exists

        def get_cfn_attribute(self, name):
            if name not in self.data:
                raise ValidationError(
                    message=f"{self.logical_resource_id} ({resource_type}) has no attribute {name} for Fn::GetAtt"
                )
            return self.data[name]

        def is_created(self):
            return True

        @classmethod
        def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs):
            resource = cls(kwargs["StackId"], account_id, region_name, cloudformation_json.get("Properties", {}))
            return resource.request("Create", kwargs["LogicalId"], resource_name)

        @classmethod
        def update_from_cloudformation_json(
            cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name
        ):
            old = original_resource
            resource = cls(old.stack_id, account_id, region_name, cloudformation_json.get("Properties", {}))
            return resource.request(
                "Update", old.logical_resource_id, old.physical_resource_id, OldResourceProperties=old.properties
            )

        def delete(self, account_id, region_name):
            self.request("Delete", self.logical_resource_id, self.physical_resource_id)

    return Provided


def without_no_value(value):
    """Removes each None, which moto puts in the place of AWS::NoValue."""
    if isinstance(value, dict):
        return {key: without_no_value(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_no_value(inner) for inner in value if inner is not None]
    return value


def resolved(definition, resources_map):
    return without_no_value(parsing.clean_json(definition.get("Properties") or {}, resources_map))


def notification(change, logical_id, resource_type, properties, resources_map, **more):
    """Returns the request that notifies the provider of a change to a resource that moto makes."""
    return {
        "Change": change,
        "ResourceType": resource_type,
        "StackId": resources_map.stack_id,
        "LogicalResourceId": logical_id,
        "ResourceProperties": properties,
        "AccountId": resources_map._account_id,
        "Region": resources_map._region_name,
        **more,
    }


def check(request):
    """Asks the provider to accept a change before moto makes it."""
    try:
        ask(request | {"RequestType": "Checked"})
    except Refused as refusal:
        refusal.untouched = True
        raise


def observe(request, resource):
    """Notifies the provider of a change that moto has made."""
    ask(request | {"RequestType": "Observed", "PhysicalResourceId": physical_id(resource)})


def physical_id(resource):
    return str(getattr(resource, "physical_resource_id", None) or "")


def observed(make):
    """Wraps the function with which moto creates a resource: the provider may refuse a native one, and is notified of it."""

    def create(logical_id, resource_json, resources_map, account_id, region_name):
        condition = resource_json.get("Condition")
        if resource_json["Type"] not in Settings.native or condition and not resources_map.lazy_condition_map[condition]:
            return make(logical_id, resource_json, resources_map, account_id, region_name)
        request = notification("Create", logical_id, resource_json["Type"], resolved(resource_json, resources_map), resources_map)
        check(request)
        resource = make(logical_id, resource_json, resources_map, account_id, region_name)
        if not physical_id(resource):
            # Some models, such as that of a Lambda permission, have none.
            resource.physical_resource_id = parsing.generate_resource_name(
                resource_json["Type"], resources_map["AWS::StackName"], logical_id
            )
        if resource_json["Type"] == "AWS::DynamoDB::Table":
            # moto ignores TimeToLiveSpecification when it creates a table.
            updates.table(resource, {"Properties": request["ResourceProperties"]})
        observe(request, resource)
        return resource

    return create


def update(logical_id, resource, old, new, resources_map):
    """Changes a resource from the properties old to new and returns the updated resource."""
    resource_type = resource.cf_resource_type
    model = parsing.resource_class_from_type(resource_type)
    request = notification("Update", logical_id, resource_type, new, resources_map, OldResourceProperties=old)
    if resource_type in Settings.native:
        check(request)
    change = updates.IN_PLACE.get(resource_type, model.update_from_cloudformation_json)
    updated = change(
        original_resource=resource,
        new_resource_name=new.get(model.cloudformation_name_type()) or physical_id(resource),
        cloudformation_json={"Type": resource_type, "Properties": new},
        account_id=resources_map._account_id,
        region_name=resources_map._region_name,
    )
    updated.cf_resource_type, updated.logical_resource_id = resource_type, logical_id
    if resource_type in Settings.native:
        observe(request, updated)
    return updated


def delete(logical_id, resource, properties, resources_map):
    resource_type = resource.cf_resource_type
    request = notification("Delete", logical_id, resource_type, properties, resources_map)
    deleted_id = physical_id(resource)
    resources_map._delete_resource(resource, {"Type": resource_type, "Properties": properties})
    if resource_type in Settings.native:
        ask(request | {"RequestType": "Observed", "PhysicalResourceId": deleted_id})


def replacing(resource_type, changed):
    """Returns the changed properties for which CloudFormation replaces the resource."""
    return [name for name in changed if name in Settings.replacing.get(resource_type, ())]
