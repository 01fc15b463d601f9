"""Templates have plain fields only: they also come with models from elsewhere."""

import pytest

from data.templates import checked_template


@pytest.mark.parametrize("template", ["{source} =>", "{{a}} {source}", "{source} {source}"])
def test_plain_fields_and_escaped_braces_are_taken(template: str) -> None:
    assert checked_template(template, {"source"}) == template


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{source:>9999999999}", "field 'source' has a format"),
        ("{source:{source}}", "field 'source' has a format"),
        ("{source!r}", "field 'source' has a format"),
        ("{source.__class__}", "template"),
        ("{source[0]}", "template"),
        ("{", "no template"),
        ("{0}", "template"),
    ],
)
def test_everything_else_of_str_format_is_refused(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_template(template, {"source"})
