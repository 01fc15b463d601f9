"""Templates: text with fields in braces, as `str.format` takes it."""

import string


def template_fields(template: str) -> set[str]:
    """Names in braces of a template. Raises ValueError when it is no template."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def checked_template(value: str, allowed: set[str]) -> str:
    """`value`, if it has fields in braces, all of them `allowed`. Raises ValueError that says what is wrong with it."""
    try:
        fields = template_fields(value)
        value.format_map(dict.fromkeys(fields, ""))
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"no template: {error}") from None
    if not fields or not fields <= allowed:
        names = " or ".join(f"{{{name}}}" for name in sorted(allowed))
        raise ValueError(f"the template must contain {names} and no other field; write {{{{ and }}}} for braces")
    return value
