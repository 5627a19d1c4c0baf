"""Serves moto with a CloudFormation that deploys, updates and deletes as AWS does.

Usage: launcher.py SETTINGS, a JSON file with
  ProviderURL   creates the resources that moto does not make
  DeliveryURL   reports whether a topic may send to a queue
  Native        the resource types that moto makes
  Replacing     resource types, and the properties whose change replaces the resource

The page QUEUES has the state of each queue. A request to PASS_DELAYS?seconds=N shortens by N seconds the delay of each
delayed message, and the visibility timeout that a receiver set.

The first line on standard output is the port, which the system chooses. The server runs until SIGTERM.
"""

import functools
import html
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from werkzeug.serving import WSGIRequestHandler, make_server

import changesets
import resources
import stacks
import statements
from moto.core import responses, utils
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.table import Table
from moto.iam.models import Role
from moto.kms.models import KmsBackend
from moto.sns.models import Subscription
from moto.sqs.models import Queue, SQSBackend, sqs_backends


def describe(error):
    """Returns the page of a crash. Its title names the cause; the edge returns the title as the error."""
    cause = getattr(error, "original_exception", None) or error
    return f"<title>{type(cause).__name__}: {html.escape(str(cause))}\n</title>", 500


QUEUES = "/_localaws/queues"
PASS_DELAYS = "/_localaws/pass-delays"

# Held while a message is added, moved to a dead-letter queue or deleted, so that a reader of all queues finds each
# message in one of them. Without it, moto loses a message that is added while another one is deleted.
QUEUES_LOCK = threading.RLock()


def locking(change):
    @functools.wraps(change)
    def locked(*args, **kwargs):
        with QUEUES_LOCK:
            return change(*args, **kwargs)

    return locked


def waiting_unlocked(receive):
    """Wraps the function with which moto receives messages, so that it does not hold the lock while it waits."""

    def receive_message(backend, queue_name, count, wait_seconds_timeout, *args, **kwargs):
        end = time.monotonic() + wait_seconds_timeout
        while True:
            with QUEUES_LOCK:
                messages = receive(backend, queue_name, count, 0, *args, **kwargs)
            left = end - time.monotonic()
            if messages or left <= 0:
                return messages
            backend.get_queue(queue_name).wait_for_messages(min(left, 1))

    return receive_message


def policy_as_text(put_policy):
    """Wraps the function with which moto stores an inline policy of a role. moto stores one from a template as a dict,
    and returns that in Python's syntax instead of JSON."""

    def put(role, name, document):
        return put_policy(role, name, document if isinstance(document, str) else json.dumps(document))

    return put


def keeping_policy(set_attributes):
    """Wraps the function with which moto sets attributes of a queue. moto drops the policy unless it is among them."""

    def set_all(queue, attributes, *args, **kwargs):
        return set_attributes(queue, {"Policy": getattr(queue, "policy", None)} | attributes, *args, **kwargs)

    return set_all


# The subscription to which this thread delivers a message.
DELIVERING = threading.local()


def noting_subscription(publish):
    def noted(subscription, *args, **kwargs):
        DELIVERING.subscription = subscription
        try:
            return publish(subscription, *args, **kwargs)
        finally:
            DELIVERING.subscription = None

    return noted


def following_queue_policy(send, delivery_url):
    """Wraps the function with which moto sends to queues. If the queue's policy denies a topic, the message goes to the
    dead-letter queue of the subscription, or is lost, as on AWS."""

    def may(topic, queue):
        try:
            urllib.request.urlopen(f"{delivery_url}?{urllib.parse.urlencode({'topic': topic, 'queue': queue})}").close()
        except urllib.error.HTTPError:
            return False
        return True

    def send_message(backend, queue_name, *args, **kwargs):
        subscription = getattr(DELIVERING, "subscription", None)
        if subscription is not None and not may(subscription.topic_arn, subscription.endpoint):
            redrive = json.loads(subscription.attributes.get("RedrivePolicy") or "{}")
            dead_letters = redrive.get("deadLetterTargetArn")
            if not dead_letters or not may(subscription.topic_arn, dead_letters):
                return None
            queue_name = dead_letters.split(":")[-1]
        return send(backend, queue_name, *args, **kwargs)

    return send_message


def key_policy_as_text(create):
    """Wraps the function with which moto creates a KMS key. moto stores the policy of one from a template as a dict,
    which GetKeyPolicy cannot return."""

    def create_key(backend, policy, *args, **kwargs):
        return create(backend, json.dumps(policy) if isinstance(policy, dict) else policy, *args, **kwargs)

    return create_key


def noting_visibility(change):
    """Wraps the function with which moto changes a visibility timeout. It marks the messages that their receiver hid."""

    def change_message_visibility(backend, queue_name, receipt_handle, visibility_timeout):
        change(backend, queue_name, receipt_handle, visibility_timeout)
        for message in backend.get_queue(queue_name)._messages:
            if message.had_receipt_handle(receipt_handle):
                message.hidden_until = message.visible_at

    return change_message_visibility


def hidden(message):
    """Reports whether the receiver of a message hid it, and nobody has received it since."""
    return not message.visible and getattr(message, "hidden_until", 0) == message.visible_at


def with_queue_pages(app):
    """Adds the pages QUEUES and PASS_DELAYS, which no API of SQS offers.

    QUEUES has for each queue the time when its oldest message was sent, in ms, and whether any message is not hidden.
    Delayed messages do not count."""

    def messages_by_queue():
        return {
            queue.queue_arn: list(queue._messages)
            for regions in list(sqs_backends.values())
            for backend in list(regions.values())
            for queue in list(backend.queues.values())
        }

    def queues():
        sent = {arn: [m for m in messages if not m.delayed] for arn, messages in messages_by_queue().items()}
        return {
            arn: {"Oldest": min(m.sent_timestamp for m in messages), "Waiting": not all(map(hidden, messages))}
            for arn, messages in sent.items()
            if messages
        }

    def pass_delays(seconds):
        for messages in messages_by_queue().values():
            for message in messages:
                message.delayed_until -= seconds * 1000
                if hidden(message):
                    message.hidden_until = message.visible_at = message.visible_at - seconds * 1000
        return {}

    def serve(environ, start_response):
        path = environ["PATH_INFO"]
        if path not in (QUEUES, PASS_DELAYS):
            return app(environ, start_response)
        with QUEUES_LOCK:
            if path == QUEUES:
                answer = queues()
            else:
                answer = pass_delays(float(urllib.parse.parse_qs(environ["QUERY_STRING"])["seconds"][0]))
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    return serve


def all_items(table):
    """Replaces a method of moto's tables, which compares each pair of keys in Python."""

    def keys(item):
        return [key.cast_value for key in (item.hash_key, item.range_key) if key]

    groups = table.items.values()
    return sorted((item for group in groups for item in group.values()) if table.range_key_attr else groups, key=keys)


def is_kept(backend, queue_name, message):
    """Replaces the method of moto's SQS that reads all attributes of the queue for each message."""
    return time.time() < backend.get_queue(queue_name).message_retention_period + message.sent_timestamp / 1000


class QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open

    def log_request(self, code="-", size="-"):
        if str(code).startswith("5"):
            super().log_request(code, size)


def main():
    with open(sys.argv[1]) as file:
        settings = json.load(file)
    resources.configure(settings["ProviderURL"], settings["Native"], settings["Replacing"])
    stacks.configure()
    changesets.configure()

    Queue.add_message = locking(Queue.add_message)
    Queue.delete_message = locking(Queue.delete_message)
    DynamoDBBackend.batch_execute_statement = statements.batch_execute_statement
    KmsBackend.create_key = key_policy_as_text(KmsBackend.create_key)
    Role.put_policy = policy_as_text(Role.put_policy)
    Queue._set_attributes = keeping_policy(Queue._set_attributes)
    Subscription.publish = noting_subscription(Subscription.publish)
    SQSBackend.send_message = following_queue_policy(SQSBackend.send_message, settings["DeliveryURL"])
    SQSBackend.change_message_visibility = noting_visibility(SQSBackend.change_message_visibility)
    SQSBackend.receive_message = waiting_unlocked(SQSBackend.receive_message)

    Table.all_items = all_items
    SQSBackend.is_message_valid_based_on_retention_period = is_kept

    from moto.server import DomainDispatcherApplication, create_backend_app

    # For each request, moto lists its own directory and the methods of a class. For each service, it lists all services
    # of botocore.
    utils.create_loader = functools.cache(utils.create_loader)
    DomainDispatcherApplication.get_backend_for_host = functools.cache(DomainDispatcherApplication.get_backend_for_host)
    responses.method_names_from_class = functools.cache(responses.method_names_from_class)

    def create_app(service):
        app = create_backend_app(service)
        app.register_error_handler(500, describe)
        return app

    app = with_queue_pages(DomainDispatcherApplication(create_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=QuietHandler)
    os.environ["MOTO_PORT"] = str(server.port)  # moto calls itself for some services
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
