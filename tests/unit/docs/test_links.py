"""Every link between the documents leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(document):
    links = [link for link in LINK.findall(document.read_text()) if "://" not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing, f"{document.relative_to(ROOT)} links to what is not there: {missing}"


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
