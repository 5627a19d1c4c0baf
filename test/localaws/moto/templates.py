"""Reads templates: checks them, and returns their parameters and the order of their resources."""

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
    """Refuses the parts of a template that moto would ignore or misread."""
    for section in template:
        if section not in SECTIONS:
            raise ValidationError(message=f"Invalid template property or properties [{section}], or the local AWS does not support it")
    for rule in template.get("Rules") or {}:
        if rule != "CheckBootstrapVersion":  # the CDK's, which is about its own bootstrap stack
            raise ValidationError(message=f"the local AWS does not support Rules in templates: [{rule}]")
    for name, condition in (template.get("Conditions") or {}).items():
        if not isinstance(condition, dict) or len(condition) != 1 or next(iter(condition)) not in CONDITIONS:
            raise ValidationError(message=f"Template format error: condition {name}: the local AWS supports only {CONDITIONS}")
        check_functions(f"Conditions/{name}", condition, CONDITIONS + FUNCTIONS)
    for name, definition in template["Resources"].items():
        for attribute in definition:
            if attribute not in ATTRIBUTES:
                raise ValidationError(message=f"Invalid template resource property '{attribute}' of {name}, or the local AWS does not support it")
        for policy, values in POLICIES.items():
            if definition.get(policy, "Delete") not in values:
                raise ValidationError(message=f"{policy} of {name} is {definition[policy]}: the local AWS supports only {values}")
        check_functions(name, definition.get("Properties"), FUNCTIONS)
    for name, output in (template.get("Outputs") or {}).items():
        check_functions(f"Outputs/{name}", output, FUNCTIONS)


def check_functions(where, value, known):
    if isinstance(value, str) and "{{resolve:" in value:
        raise ValidationError(message=f"{where}: the local AWS does not support dynamic references: {value}")
    if isinstance(value, list):
        for inner in value:
            check_functions(where, inner, known)
    if isinstance(value, dict):
        for key, inner in value.items():
            if key.startswith("Fn::") and key not in known:
                raise ValidationError(message=f"Template error: {where}: the local AWS does not support the function {key} there")
            if (key.startswith("Fn::") or key == "Ref") and len(value) > 1:
                raise ValidationError(message=f"Template error: {where}: {key} must be the only key of its object")
            check_functions(where, inner, known)


def check_value(key, declaration, value):
    """Refuses a value that violates the constraints of its parameter."""
    is_list = declaration.get("Type", "").startswith("List<") or declaration.get("Type") == "CommaDelimitedList"
    for one in value.split(",") if is_list else [value]:
        one = one.strip() if is_list else one
        number = None
        if "Number" in declaration.get("Type", ""):
            try:
                number = float(one)
            except ValueError:
                raise ValidationError(message=f"Parameter '{key}' must be a number.") from None
        if "AllowedValues" in declaration and one not in [as_text(allowed) for allowed in declaration["AllowedValues"]]:
            raise ValidationError(message=f"Parameter '{key}' must be one of AllowedValues")
        if "AllowedPattern" in declaration and not re.fullmatch(declaration["AllowedPattern"], one):
            raise ValidationError(message=f"Parameter '{key}' must match pattern {declaration['AllowedPattern']}")
        if not int(declaration.get("MinLength", 0)) <= len(one) <= int(declaration.get("MaxLength", len(one))):
            raise ValidationError(message=f"Parameter '{key}' must contain {declaration.get('MinLength', 0)} to {declaration.get('MaxLength', 'any number of')} characters")
        if number is not None and not float(declaration.get("MinValue", number)) <= number <= float(declaration.get("MaxValue", number)):
            raise ValidationError(message=f"Parameter '{key}' must be a number from {declaration.get('MinValue', 'any')} to {declaration.get('MaxValue', 'any')}")


def parameters_of(template, given, previous, account_id, region_name):
    """Returns the value of each of the template's parameters, as text."""
    declarations = template.get("Parameters") or {}
    if unknown := [key for key in given if key not in declarations]:
        raise ValidationError(message=f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    values = {key: declaration.get("Default") for key, declaration in declarations.items()}
    for key, value in given.items():
        values[key] = previous.get(key, values[key]) if value is None else value
    if missing := [key for key, value in values.items() if value is None]:
        raise ValidationError(message=f"Parameters: [{', '.join(missing)}] must have values")
    for key, value in values.items():
        if declarations[key].get("Type", "").startswith("AWS::SSM::Parameter::"):
            if ssm_backends[account_id][region_name].get_parameter(value) is None:
                raise ValidationError(
                    message=f"Unable to fetch parameters [{value}] from parameter store for this account."
                )
    values = {key: as_text(value) for key, value in values.items()}
    for key, value in values.items():
        check_value(key, declarations[key], value)
    return values


def as_text(value):
    """Returns a parameter's value as CloudFormation stores it."""
    if isinstance(value, list):
        return ",".join(as_text(inner) for inner in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def references(definition):
    """Returns the names that a resource's definition refers to."""
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
    order, visiting = {}, []

    def visit(name):
        if name in visiting:
            raise ValidationError(message=f"Circular dependency between resources: [{', '.join(visiting[visiting.index(name) :])}]")
        if name in order:
            return
        visiting.append(name)
        needed = {n for n in references(definitions[name]) if not n.startswith("AWS::")}
        if missing := sorted(needed - known):
            raise ValidationError(
                message="Template format error: Unresolved resource dependencies "
                f"[{', '.join(missing)}] in the Resources block of the template"
            )
        for other in sorted(needed & set(definitions)):
            visit(other)
        visiting.pop()
        order[name] = True

    for name in definitions:
        visit(name)
    return list(order)


def parameter_list(template, parameters, resources_map):
    """Returns the parameters as DescribeStacks does."""
    declarations = template.get("Parameters") or {}
    listed = []
    for key, value in parameters.items():
        hidden = str(declarations[key].get("NoEcho", "false")).lower() == "true"
        listed.append({"ParameterKey": key, "ParameterValue": "****" if hidden else value})
        if declarations[key].get("Type", "").startswith("AWS::SSM::Parameter::") and not hidden:
            listed[-1]["ResolvedValue"] = as_text(resources_map.resolved_parameters[key])
    return listed
