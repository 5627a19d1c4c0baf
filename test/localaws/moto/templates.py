"""What a template says before anything is made of it: its parameters, and the order of its resources."""

import re

from moto.cloudformation.exceptions import ValidationError
from moto.ssm import ssm_backends


SECTIONS = ["AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules", "Mappings", "Conditions", "Resources", "Outputs"]
ATTRIBUTES = ["Type", "Properties", "DependsOn", "Condition", "DeletionPolicy", "UpdateReplacePolicy", "Metadata"]
POLICIES = {
    "DeletionPolicy": ["Delete", "Retain", "RetainExceptOnCreate"],
    "UpdateReplacePolicy": ["Delete", "Retain"],
}
CONDITIONS = ["Fn::And", "Fn::Equals", "Fn::Not", "Fn::Or"]
FUNCTIONS = ["Fn::Base64", "Fn::FindInMap", "Fn::GetAtt", "Fn::If", "Fn::ImportValue", "Fn::Join", "Fn::Select", "Fn::Split", "Fn::Sub"]


def check(template):
    """Refuses what moto would overlook, or take for something else."""
    for section in template:
        if section not in SECTIONS:
            raise ValidationError(message=f"Invalid template property or properties [{section}], or one that the local AWS does not follow")
    for rule in template.get("Rules") or {}:
        if rule != "CheckBootstrapVersion":  # the CDK's, which is about its own bootstrap stack
            raise ValidationError(message=f"the local AWS does not follow Rules in templates: [{rule}]")
    for name, condition in (template.get("Conditions") or {}).items():
        if not isinstance(condition, dict) or len(condition) != 1 or next(iter(condition)) not in CONDITIONS:
            raise ValidationError(message=f"Template format error: condition {name} is not one of {CONDITIONS}, which the local AWS follows")
        check_functions(f"Conditions/{name}", condition, CONDITIONS + FUNCTIONS)
    for name, definition in template["Resources"].items():
        for attribute in definition:
            if attribute not in ATTRIBUTES:
                raise ValidationError(message=f"Invalid template resource property '{attribute}' of {name}, or one that the local AWS does not follow")
        for policy, values in POLICIES.items():
            if definition.get(policy, "Delete") not in values:
                raise ValidationError(message=f"{policy} of {name} is {definition[policy]}, want one of {values}, which the local AWS follows")
        check_functions(name, definition.get("Properties"), FUNCTIONS)
    for name, output in (template.get("Outputs") or {}).items():
        check_functions(f"Outputs/{name}", output, FUNCTIONS)


def check_functions(where, value, known):
    if isinstance(value, str) and "{{resolve:" in value:
        raise ValidationError(message=f"{where}: the local AWS does not follow dynamic references: {value}")
    if isinstance(value, list):
        for inner in value:
            check_functions(where, inner, known)
    if isinstance(value, dict):
        for key, inner in value.items():
            if key.startswith("Fn::") and key not in known:
                raise ValidationError(message=f"Template error: {where}: {key} is no function that the local AWS follows there")
            if (key.startswith("Fn::") or key == "Ref") and len(value) > 1:
                raise ValidationError(message=f"Template error: {where}: {key} is not alone in its object")
            check_functions(where, inner, known)


def check_value(key, slot, value):
    """Refuses a value that breaks what the template says of its parameter."""
    is_list = slot.get("Type", "").startswith("List<") or slot.get("Type") == "CommaDelimitedList"
    for one in value.split(",") if is_list else [value]:
        one = one.strip() if is_list else one
        number = None
        if "Number" in slot.get("Type", ""):
            try:
                number = float(one)
            except ValueError:
                raise ValidationError(message=f"Parameter '{key}' must be a number.") from None
        if "AllowedValues" in slot and one not in [as_text(allowed) for allowed in slot["AllowedValues"]]:
            raise ValidationError(message=f"Parameter '{key}' must be one of AllowedValues")
        if "AllowedPattern" in slot and not re.fullmatch(slot["AllowedPattern"], one):
            raise ValidationError(message=f"Parameter '{key}' must match pattern {slot['AllowedPattern']}")
        if not int(slot.get("MinLength", 0)) <= len(one) <= int(slot.get("MaxLength", len(one))):
            raise ValidationError(message=f"Parameter '{key}' must contain {slot.get('MinLength', 0)} to {slot.get('MaxLength', 'any number of')} characters")
        if number is not None and not float(slot.get("MinValue", number)) <= number <= float(slot.get("MaxValue", number)):
            raise ValidationError(message=f"Parameter '{key}' must be a number from {slot.get('MinValue', 'any')} to {slot.get('MaxValue', 'any')}")


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
    values = {key: as_text(value) for key, value in values.items()}
    for key, value in values.items():
        check_value(key, slots[key], value)
    return values


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
