"""Every link between the documents leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
ANCHORED = re.compile(r"\]\(([^)#\s]*)#([^)\s]+)\)")
NAMED = re.compile(r"\bdocs/[\w/-]+\.(?:md|svg)\b")
SOURCES = sorted(path for folder in ("src", "tests", "scripts", "bench") for path in ROOT.glob(f"{folder}/**/*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(document):
    links = [link for link in LINK.findall(document.read_text()) if "://" not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing, f"{document.relative_to(ROOT)} links to what is not there: {missing}"


def anchors_of(document):
    """Give what may follow # for a page: its headings as GitHub and MkDocs name them, and its own anchors."""
    text = document.read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings]
    return {*plain, *re.findall(r'<a (?:id|name)="([^"]+)"', text)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_a_heading_find_it(document):
    links = [(page, anchor) for page, anchor in ANCHORED.findall(document.read_text()) if "://" not in page]
    missing = [
        f"{page}#{anchor}"
        for page, anchor in links
        if anchor not in anchors_of(document.parent / page if page else document)
    ]
    assert not missing, f"{document.relative_to(ROOT)} links to headings that are not there: {missing}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_begins_with_nothing_but_its_language(document):
    """MkDocs and its heirs take ```` ```sh server ```` for text, and what follows, up to the next fence, for code."""
    opened = [line for line in document.read_text().splitlines() if line.startswith("```")][::2]
    assert not [line for line in opened if not re.fullmatch(r"```[\w+-]*", line)]


def test_documents_that_the_code_names_exist():
    named = {(path, page) for path in SOURCES for page in NAMED.findall(path.read_text())}
    assert len(named) > 40
    missing = [f"{path.relative_to(ROOT)}: {page}" for path, page in named if not (ROOT / page).exists()]
    assert not missing


def test_every_page_is_reached_from_the_index():
    index = (ROOT / "docs/index.md").read_text()
    reached = {(ROOT / "docs" / link).resolve() for link in LINK.findall(index) if "://" not in link}
    pages = {path.resolve() for path in ROOT.glob("docs/*/*.md") if path.parent.name != "adr"}
    assert pages <= reached, f"not in docs/index.md: {sorted(path.name for path in pages - reached)}"


def test_the_sites_menu_has_every_page_of_the_index():
    menu = (ROOT / "mkdocs.yml").read_text()
    index = {link for link in LINK.findall((ROOT / "docs/index.md").read_text()) if "://" not in link}
    missing = [link for link in index if f": {link}\n" not in menu]
    assert not missing, f"mkdocs.yml lacks {missing}"
