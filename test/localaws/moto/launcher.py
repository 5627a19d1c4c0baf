"""Serves moto with a CloudFormation that deploys, updates and deletes as AWS does.

Usage: launcher.py SETTINGS, a JSON file with
  ProviderURL   asked for the resources that moto does not make
  DeliveryURL   asked whether a topic may send to a queue
  Native        the resource types that moto makes
  Replacing     resource types, and the properties whose change replaces the resource

At QUEUES it tells of the queues' messages. A request to PASS_DELAYS, with ?seconds=, lets that much of the time pass for
which messages are delayed, or hidden by those who received them.

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
import urllib.error
import urllib.parse
import urllib.request

from werkzeug.serving import WSGIRequestHandler, make_server

import changesets
import resources
import stacks
import statements
from moto.core import responses
from moto.dynamodb.models import DynamoDBBackend
from moto.iam.models import Role
from moto.kms.models import KmsBackend
from moto.sns.models import Subscription
from moto.sqs.models import Queue, SQSBackend, sqs_backends


def describe(error):
    """Makes the page of a crash name its cause, which the edge passes on."""
    cause = getattr(error, "original_exception", None) or error
    return f"<title>{type(cause).__name__}: {html.escape(str(cause))}\n</title>", 500


QUEUES = "/_localaws/queues"
PASS_DELAYS = "/_localaws/pass-delays"

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


def in_json(put_policy):
    """Wraps the function with which moto keeps an inline policy of a role: one from a template would be read back as
    Python writes it, not as JSON."""

    def put(role, name, document):
        return put_policy(role, name, document if isinstance(document, str) else json.dumps(document))

    return put


def keeping_policy(set_attributes):
    """Wraps the function with which moto sets attributes of a queue: it forgets the policy where that is not among
    them."""

    def set_all(queue, attributes, *args, **kwargs):
        return set_attributes(queue, {"Policy": getattr(queue, "policy", None)} | attributes, *args, **kwargs)

    return set_all


# The subscription that is sent to by this thread.
SENDING = threading.local()


def sending(publish):
    def noted(subscription, *args, **kwargs):
        SENDING.subscription = subscription
        try:
            return publish(subscription, *args, **kwargs)
        finally:
            SENDING.subscription = None

    return noted


def permitted(send, delivery_url):
    """Wraps the function with which moto sends to queues: what the queue's policy does not let a topic send goes to the
    dead-letter queue of the subscription, or is lost, as on AWS."""

    def may(topic, queue):
        try:
            urllib.request.urlopen(f"{delivery_url}?{urllib.parse.urlencode({'topic': topic, 'queue': queue})}").close()
        except urllib.error.HTTPError:
            return False
        return True

    def send_message(backend, queue_name, *args, **kwargs):
        subscription = getattr(SENDING, "subscription", None)
        if subscription is not None and not may(subscription.topic_arn, subscription.endpoint):
            redrive = json.loads(subscription.attributes.get("RedrivePolicy") or "{}")
            dead_letters = redrive.get("deadLetterTargetArn")
            if not dead_letters or not may(subscription.topic_arn, dead_letters):
                return None
            queue_name = dead_letters.split(":")[-1]
        return send(backend, queue_name, *args, **kwargs)

    return send_message


def with_text(create):
    """Wraps the function with which moto makes a KMS key: the policy of one from a template could not be read back."""

    def create_key(backend, policy, *args, **kwargs):
        return create(backend, json.dumps(policy) if isinstance(policy, dict) else policy, *args, **kwargs)

    return create_key


def hiding(change):
    """Wraps the function with which moto hides a message for a time that its receiver chose."""

    def change_message_visibility(backend, queue_name, receipt_handle, visibility_timeout):
        change(backend, queue_name, receipt_handle, visibility_timeout)
        for message in backend.get_queue(queue_name)._messages:
            if message.had_receipt_handle(receipt_handle):
                message.hidden_until = message.visible_at

    return change_message_visibility


def hidden(message):
    """Reports whether the receiver of a message hid it, and nobody has received it since."""
    return not message.visible and getattr(message, "hidden_until", 0) == message.visible_at


def with_queues(app):
    """Adds pages with what no API of SQS has: for each queue when its oldest message was sent, in ms, without those
    that are delayed, and whether a message waits neither delayed nor hidden; and the end of delays."""

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
        with MOVING:
            if path == QUEUES:
                answer = queues()
            else:
                answer = pass_delays(float(urllib.parse.parse_qs(environ["QUERY_STRING"])["seconds"][0]))
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    return serve


class QuietHandler(WSGIRequestHandler):
    def log_request(self, code="-", size="-"):
        if str(code).startswith("5"):
            super().log_request(code, size)


def main():
    with open(sys.argv[1]) as file:
        settings = json.load(file)
    resources.configure(settings["ProviderURL"], settings["Native"], settings["Replacing"])
    stacks.configure()
    changesets.configure()

    Queue.add_message = moving(Queue.add_message)
    Queue.delete_message = moving(Queue.delete_message)
    DynamoDBBackend.batch_execute_statement = statements.batch_execute_statement
    KmsBackend.create_key = with_text(KmsBackend.create_key)
    Role.put_policy = in_json(Role.put_policy)
    Queue._set_attributes = keeping_policy(Queue._set_attributes)
    Subscription.publish = sending(Subscription.publish)
    SQSBackend.send_message = permitted(SQSBackend.send_message, settings["DeliveryURL"])
    SQSBackend.change_message_visibility = hiding(SQSBackend.change_message_visibility)
    SQSBackend.receive_message = waiting_outside(SQSBackend.receive_message)

    from moto.server import DomainDispatcherApplication, create_backend_app

    # moto lists its own directory and the methods of a class in each request, which takes as long as the rest.
    DomainDispatcherApplication.get_backend_for_host = functools.cache(DomainDispatcherApplication.get_backend_for_host)
    responses.method_names_from_class = functools.cache(responses.method_names_from_class)

    def create_app(service):
        app = create_backend_app(service)
        app.register_error_handler(500, describe)
        return app

    app = with_queues(DomainDispatcherApplication(create_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=QuietHandler)
    os.environ["MOTO_PORT"] = str(server.port)  # moto calls itself for some services
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
