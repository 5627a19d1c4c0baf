"""Serves moto with the CloudFormation types that it lacks.

Usage: launcher.py PROVIDER_URL [NATIVE_TYPE ...]

moto skips a resource type that it does not know and still reports the stack as
complete. Here each type that is not named on the command line, Custom:: types among
them, is asked for at PROVIDER_URL, with its properties resolved; the answer's
PhysicalResourceId and Data become Ref and Fn::GetAtt, and a refusal fails the stack.
The provider also hears of the resources that moto makes itself, and may refuse them.

At OLDEST_MESSAGES it tells of the queues' oldest messages.

The first line on standard output is the port, which the system chooses. The server
ends with its standard input's owner or on SIGTERM.
"""

import functools
import html
import json
import os
import sys
import threading
import time
import urllib.request

from werkzeug.serving import WSGIRequestHandler, make_server

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend
from moto.core.common_models import CloudFormationModel
from moto.sqs.models import Queue, SQSBackend, sqs_backends

# A custom resource's function may run for 15 minutes.
PROVIDER_TIMEOUT_SECONDS = 16 * 60

PROVIDER_URL = sys.argv[1] if len(sys.argv) > 1 else ""
NAMED = frozenset(sys.argv[2:])

# Read before any subclass of ours exists, so that only moto's own models are in it.
NATIVE = {name: model for name, model in parsing.get_model_map().items() if name in NAMED}


def ask(request):
    """Posts a request to the provider and returns its answer."""
    subject = f"{request.get('LogicalResourceId')} ({request['ResourceType']})"
    post = urllib.request.Request(
        PROVIDER_URL, json.dumps(request, default=str).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(post, timeout=PROVIDER_TIMEOUT_SECONDS) as response:
            answer = json.load(response)
    except (OSError, ValueError) as error:
        raise ValidationError(message=f"{subject}: no answer from the resource provider: {error}") from error
    if answer.get("Status") == "FAILED":
        raise ValidationError(message=f"{subject}: {answer.get('Reason')}")
    return answer


@functools.cache
def provided(resource_type):
    """Makes the model class of a type that the provider knows or refuses."""

    class Provided(CloudFormationModel):
        __module__ = "moto.cloudformation.provided"  # moto files its models by this name

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
            return True  # get_cfn_attribute knows, once the resource exists

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


def resource_class_from_type(resource_type):
    return NATIVE.get(resource_type) or provided(resource_type)


def without_no_value(value):
    """Drops what AWS::NoValue leaves, which moto keeps as None in lists."""
    if isinstance(value, dict):
        return {key: without_no_value(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_no_value(inner) for inner in value if inner is not None]
    return value


def observing(change, make):
    """Wraps the function with which moto creates or updates a resource."""

    def observe(logical_id, resource_json, resources_map, account_id, region_name):
        condition = resource_json.get("Condition")
        if resource_json["Type"] not in NATIVE or condition and not resources_map.lazy_condition_map[condition]:
            return make(logical_id, resource_json, resources_map, account_id, region_name)
        told = {
            "RequestType": "Checked",
            "Change": change,
            "ResourceType": resource_json["Type"],
            "StackId": resources_map.stack_id,
            "LogicalResourceId": logical_id,
            "ResourceProperties": without_no_value(
                parsing.clean_json(resource_json.get("Properties", {}), resources_map)
            ),
            "AccountId": account_id,
            "Region": region_name,
        }
        ask(told)
        if change == "Update" and hasattr(
            NATIVE[resource_json["Type"]].update_from_cloudformation_json, "__isabstractmethod__"
        ):
            # moto would leave it as it is and forget it.
            raise ValidationError(
                message=f"{logical_id} ({resource_json['Type']}): the local AWS does not update this type: "
                "start a new one and deploy to it"
            )
        resource = make(logical_id, resource_json, resources_map, account_id, region_name)
        if resource is not None:
            # Some models, such as that of a Lambda permission, have no id.
            ask(told | {"RequestType": "Observed", "PhysicalResourceId": str(getattr(resource, "physical_resource_id", ""))})
        return resource

    return observe


def rolling_back(create):
    """Wraps the function with which moto creates a stack, to end a failed one as CloudFormation does: without
    resources, to be deleted before the name is taken again, which the cdk CLI does by itself."""

    def create_stack(backend, name, *args, **kwargs):
        before = set(backend.stacks)
        try:
            return create(backend, name, *args, **kwargs)
        except Exception as error:
            for stack_id, stack in list(backend.stacks.items()):
                if stack_id not in before and stack.name == name:
                    roll_back(stack, str(error))
            raise

    return create_stack


def roll_back(stack, reason):
    stack._add_stack_event("ROLLBACK_IN_PROGRESS", resource_status_reason=reason)
    try:
        stack.resource_map.delete()
        stack.status = "ROLLBACK_COMPLETE"
    except Exception:
        stack.status = "ROLLBACK_FAILED"
    else:
        # moto makes what is not there as soon as somebody asks.
        stack.resource_map._resource_json_map = {}
        stack.output_map._output_json_map = {}
    stack._add_stack_event(stack.status)


def describe(error):
    """Makes the page of a crash name its cause, which the edge passes on."""
    cause = getattr(error, "original_exception", None) or error
    return f"<title>{type(cause).__name__}: {html.escape(str(cause))}\n</title>", 500


OLDEST_MESSAGES = "/_localaws/oldest-messages"

# Held where messages come, move to a dead-letter queue or go, so that whoever looks at all queues finds each message
# in one of them. moto itself would lose a message that comes while another one is deleted.
MOVING = threading.RLock()


def moving(change):
    @functools.wraps(change)
    def locked(*args, **kwargs):
        with MOVING:
            return change(*args, **kwargs)

    return locked


def waiting_outside(receive):
    """Wraps the function with which moto receives messages: it waits without the lock."""

    def receive_message(backend, queue_name, count, wait_seconds_timeout, *args, **kwargs):
        end = time.monotonic() + wait_seconds_timeout
        while True:
            with MOVING:
                messages = receive(backend, queue_name, count, 0, *args, **kwargs)
            left = end - time.monotonic()
            if messages or left <= 0:
                return messages
            backend.get_queue(queue_name).wait_for_messages(min(left, 1))

    return receive_message


def with_oldest_messages(app):
    """Adds a page with what no API of SQS tells: when the oldest message of each queue was sent, in ms."""

    def serve(environ, start_response):
        if environ["PATH_INFO"] != OLDEST_MESSAGES:
            return app(environ, start_response)
        with MOVING:
            oldest = {
                queue.queue_arn: min(message.sent_timestamp for message in messages)
                for regions in list(sqs_backends.values())
                for backend in list(regions.values())
                for queue in list(backend.queues.values())
                if (messages := list(queue._messages))
            }
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(oldest).encode()]

    return serve


class QuietHandler(WSGIRequestHandler):
    def log_request(self, code="-", size="-"):
        if str(code).startswith("5"):
            super().log_request(code, size)


def main():
    parsing.resource_class_from_type = resource_class_from_type
    parsing.parse_and_create_resource = observing("Create", parsing.parse_and_create_resource)
    parsing.parse_and_update_resource = observing("Update", parsing.parse_and_update_resource)

    Queue.add_message = moving(Queue.add_message)
    Queue.delete_message = moving(Queue.delete_message)
    SQSBackend.receive_message = waiting_outside(SQSBackend.receive_message)
    CloudFormationBackend.create_stack = rolling_back(CloudFormationBackend.create_stack)

    from moto.server import DomainDispatcherApplication, create_backend_app

    def create_app(service):
        app = create_backend_app(service)
        app.register_error_handler(500, describe)
        return app

    app = with_oldest_messages(DomainDispatcherApplication(create_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=QuietHandler)
    os.environ["MOTO_PORT"] = str(server.port)  # moto calls itself for some services
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
