from pathlib import Path

from disco_trace.trace.schema import FORMAT_VERSION, KINDS
from disco_trace.trace.schema_doc import document

TRACES = Path(__file__).parents[2] / "traces"


def test_the_document_is_current():
    assert (TRACES / "SCHEMA.md").read_text() == document(), (
        "run: python -m disco_trace.trace.schema_doc traces/SCHEMA.md"
    )


def test_the_document_has_every_column():
    text = document()
    for kind in KINDS:
        assert f"\n### {kind.name}\n" in text
        for column in kind.columns:
            assert f"| `{column.name}` | {column.type} |" in text


def test_the_changes_tell_of_this_version():
    assert f"## Version {FORMAT_VERSION}" in (TRACES / "CHANGES.md").read_text()
