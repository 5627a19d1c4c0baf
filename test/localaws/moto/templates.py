"""What a template says before anything is made of it: its parameters, and the order of its resources."""

import re

from moto.cloudformation.exceptions import ValidationError
from moto.ssm import ssm_backends


def parameters_of(template, given, previous, account_id, region_name):
    """The value of each of the template's parameters, as text."""
    slots = template.get("Parameters") or {}
    if unknown := [key for key in given if key not in slots]:
        raise ValidationError(message=f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    values = {key: slot.get("Default") for key, slot in slots.items()}
    for key, value in given.items():
        values[key] = previous.get(key, values[key]) if value is None else value
    if missing := [key for key, value in values.items() if value is None]:
        raise ValidationError(message=f"Parameters: [{', '.join(missing)}] must have values")
    for key, value in values.items():
        if slots[key].get("Type", "").startswith("AWS::SSM::Parameter::"):
            if ssm_backends[account_id][region_name].get_parameter(value) is None:
                raise ValidationError(
                    message=f"Unable to fetch parameters [{value}] from parameter store for this account."
                )
    return {key: as_text(value) for key, value in values.items()}


def as_text(value):
    """A parameter's value as CloudFormation keeps it."""
    if isinstance(value, list):
        return ",".join(as_text(inner) for inner in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def references(definition):
    """The names that a resource's definition refers to."""
    found = set()

    def walk(value):
        if isinstance(value, list):
            for inner in value:
                walk(inner)
        if not isinstance(value, dict):
            return
        for key, inner in value.items():
            if key == "Ref" and isinstance(inner, str):
                found.add(inner)
            elif key == "Fn::GetAtt":
                found.add(inner[0] if isinstance(inner, list) else inner.split(".")[0])
            elif key == "Fn::Sub":
                text, own = inner if isinstance(inner, list) else (inner, {})
                walk(own)
                found.update({n.split(".")[0] for n in re.findall(r"\$\{([^!}][^}]*)\}", text)} - set(own))
            else:
                walk(inner)

    walk(definition.get("Properties"))
    depends = definition.get("DependsOn", [])
    return found | set([depends] if isinstance(depends, str) else depends)


def in_dependency_order(template):
    definitions = template["Resources"]
    known = set(definitions) | set(template.get("Parameters") or {})
    order, open_ = {}, []

    def visit(name):
        if name in open_:
            raise ValidationError(message=f"Circular dependency between resources: [{', '.join(open_[open_.index(name) :])}]")
        if name in order:
            return
        open_.append(name)
        needed = {n for n in references(definitions[name]) if not n.startswith("AWS::")}
        if missing := sorted(needed - known):
            raise ValidationError(
                message="Template format error: Unresolved resource dependencies "
                f"[{', '.join(missing)}] in the Resources block of the template"
            )
        for other in sorted(needed & set(definitions)):
            visit(other)
        open_.pop()
        order[name] = True

    for name in definitions:
        visit(name)
    return list(order)


def parameter_list(template, parameters, resources_map):
    """The parameters as they are described."""
    slots = template.get("Parameters") or {}
    listed = []
    for key, value in parameters.items():
        hidden = str(slots[key].get("NoEcho", "false")).lower() == "true"
        listed.append({"ParameterKey": key, "ParameterValue": "****" if hidden else value})
        if slots[key].get("Type", "").startswith("AWS::SSM::Parameter::") and not hidden:
            listed[-1]["ResolvedValue"] = as_text(resources_map.resolved_parameters[key])
    return listed
