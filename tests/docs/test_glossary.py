"""The glossary stays in order, and short."""

import re

from docs.test_site import ROOT

_, *ENTRIES = (ROOT / "docs" / "glossary.md").read_text().strip().split("\n\n")
TERMS = [re.match(r"\*\*(.+?)\.\*\*", entry)[1] for entry in ENTRIES]


def test_terms_are_in_alphabetical_order():
    keys = [re.sub(r"[^a-z_ ]", "", term.lower()) for term in TERMS]
    assert keys == sorted(keys)
    assert len(set(TERMS)) == len(TERMS)


def test_entries_are_short():
    assert 25 <= len(ENTRIES) <= 40
    for entry in ENTRIES:
        assert len(entry.split()) <= 60, entry


def test_the_page_of_own_tasks_has_short_paragraphs():
    text = (ROOT / "docs" / "your-own-task.md").read_text()
    for paragraph in re.sub(r"```.*?```", "", text, flags=re.DOTALL).split("\n\n"):
        for item in re.split(r"^- ", paragraph, flags=re.MULTILINE):
            assert len(item.split()) <= 60 or item.startswith(("    ", "|")), item
