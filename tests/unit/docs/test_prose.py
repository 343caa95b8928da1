"""The prose of the documents, as far as a machine can judge: short lines, short sentences, no stock phrases."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COLUMNS_MAX = 120
WORDS_MEAN_MAX = 17  # the guides have 9 to 13; a page that needs more has sentences with several thoughts
WRITTEN_BY_CODE = {"limits.md", "settings.md", "update-errors.md", "cli.md", "errors.md"}
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    if path.name != "CHANGELOG.md" and path.name not in WRITTEN_BY_CODE
)
STOCK = {
    r"\bshown this once\b": "is shown only once",
    r"\bthe most (?:it|there|they) may\b": "which is the maximum",
    r"\b(?:is|are|be) told of\b": "is reported",
    r"\bpass(?:es|ed)? (?:it|them|the device) by\b": "skips it",
    r"\b(?:made|written|begun|issued|sealed|searched|judged) anew\b": "again",
    r"\bhas it so already\b": "already has it",
    r"\bit proves nobody\b": "nobody can authenticate with it",
    r"\bwhat is another's\b": "the data of another account",
    r"\bgive the (?:reason|error)s? in words\b": "say why",
}


def prose_of(text):
    """Return a page's paragraphs and list items, each in one line: no code, tables, headings or comments."""
    plain = re.sub(r"^ *```.*?^ *```$|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in plain.splitlines() if not line.startswith(("|", "#"))]
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", "\n".join(lines))
    return [" ".join(re.sub(r"\]\([^)]*\)", "]", block).split()) for block in blocks if block.strip()]


def sentences_of(text):
    return [part for block in prose_of(text) for part in re.split(r"(?<=[.!?:;])\W*\s+", block) if part]


def faults_of(text):
    """Return what is wrong with a page, each with what to do about it."""
    faults = []
    code = False
    for number, line in enumerate(text.splitlines(), 1):
        code ^= line.lstrip().startswith("```")
        if len(line) > COLUMNS_MAX and not code and not line.startswith(("|", "#", "<!--")) and " " in line.strip("- "):
            faults.append(f"line {number}: wrap it at {COLUMNS_MAX} columns")
    for phrase, plain in STOCK.items():
        faults += [f"{found[0]!r}: write {plain!r}" for found in re.finditer(phrase, text)]
    lengths = [len(sentence.split()) for sentence in sentences_of(text)]
    if lengths and sum(lengths) / len(lengths) > WORDS_MEAN_MAX:
        longest = max(sentences_of(text), key=lambda sentence: len(sentence.split()))
        faults.append(f"{sum(lengths) / len(lengths):.1f} words a sentence: split the long ones, as {longest!r}")
    return faults


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_is_wrapped_and_has_short_sentences_and_no_stock_phrases(page):
    assert not faults_of(page.read_text())


def test_the_pages_are_there():
    """An empty list of pages would let the test above pass."""
    assert len(PAGES) > 40


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("x " * 61, "line 1: wrap it"),
        ("```\nshort\n```\n\n" + "x " * 61, "line 5: wrap it"),
        ("The token is shown this once.", "'shown this once': write"),
        (("one two three four five six " * 3 + "end.\n") * 2, "19.0 words a sentence"),
        ("- " + "one two three four five six " * 3 + "end.\n", "words a sentence"),
    ],
)
def test_a_fault_of_prose_is_found(text, fault):
    assert [found for found in faults_of(text) if fault in found]


@pytest.mark.parametrize(
    "text",
    ["```\n" + "x " * 80 + "\n```\n", "| " + "x " * 80 + " |\n", "# A heading\n\nA short sentence. Another one.\n"],
)
def test_code_tables_and_headings_are_left_alone(text):
    assert not faults_of(text)
