"""Templates: text with fields in braces, `{name}` and nothing else of what `str.format` takes."""

import string


def template_fields(template: str) -> set[str]:
    """Names in braces of a template.

    Raises:
        ValueError: it is no template; or a field has a format or a conversion, with which data or a model from elsewhere could ask for
            texts of any width (`{source:>9999999999}`).
    """
    fields = [parts for parts in string.Formatter().parse(template) if parts[1] is not None]
    for _, name, format_spec, conversion in fields:
        if format_spec or conversion:
            raise ValueError(f"field '{name}' has a format; write {{{name}}} alone")
    return {str(name) for _, name, _, _ in fields}


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
