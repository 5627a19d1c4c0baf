"""Runs PartiQL statements as AWS does.

moto's parser ignores conditions: an update whose condition is false succeeds, and so does the insert of an item that
exists. This module runs the inserts and updates that the forwarder sends, and refuses all others.
"""

import re

from moto.dynamodb.exceptions import MockValidationException
from moto.dynamodb.models.dynamo_type import DynamoType

INSERT = re.compile(r"""INSERT INTO "([^"]+)" VALUE \{((?:'\w+': \?(?:, )?)+)\}""")
UPDATE = re.compile(r"""UPDATE "([^"]+)"((?: SET "\w+" = \?)+)((?: REMOVE "\w+")*) WHERE ("\w+" = \?(?: AND "\w+" = \?)*)""")
NAME = re.compile(r"""["'](\w+)["']""")
MAX_STATEMENTS = 25


def batch_execute_statement(backend, statements):
    """Replaces the method of moto's backend."""
    if not 1 <= len(statements) <= MAX_STATEMENTS:
        raise MockValidationException(f"{len(statements)} statements, want 1 to {MAX_STATEMENTS}")
    writes = [read(backend, s) for s in statements]
    keys = [(table.name, str(key)) for table, key, *_ in writes]
    if len(set(keys)) < len(keys):
        raise MockValidationException("the local AWS does not support two statements about one item in a batch")
    return [write(*w) for w in writes]


def read(backend, statement):
    text, parameters = statement["Statement"], statement.get("Parameters", [])
    insert, update = INSERT.fullmatch(text), UPDATE.fullmatch(text)
    found = insert or update
    if not found or set(statement) - {"Statement", "Parameters"}:
        raise MockValidationException(f"the local AWS does not support the statement {text}")
    table = backend.get_table(found[1])
    names = [NAME.findall(part) for part in found.groups()[1:]]
    if len(names[0]) + len(names[2] if update else []) != len(parameters):
        raise MockValidationException("Number of parameters in request and statement don't match")
    changes, where = dict(zip(names[0], parameters)), {}
    if update:
        where = dict(zip(names[2], parameters[len(names[0]):]))
    source = where if update else changes
    attributes = [table.hash_key_attr] + ([table.range_key_attr] if table.range_key_attr else [])
    if any(name not in source for name in attributes):
        raise MockValidationException(f"the local AWS does not support a statement without the whole key: {text}")
    return table, {name: source[name] for name in attributes}, changes, names[1] if update else [], where


def write(table, key, changes, removed, where):
    old = table.get_item(*(DynamoType(value) for value in key.values()))
    attributes = old.to_json()["Attributes"] if old else None
    if not where and old:
        return failed("DuplicateItem", "Duplicate primary key exists in table")
    if where and (not old or any(attributes.get(name) != value for name, value in where.items())):
        return failed("ConditionalCheckFailed", "The conditional request failed")
    new = (attributes or {}) | key | changes
    table.put_item({name: value for name, value in new.items() if name not in removed})
    return {"TableName": table.name}


def failed(code, message):
    return {"Error": {"Code": code, "Message": message}}
