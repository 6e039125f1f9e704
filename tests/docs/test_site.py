"""The site: it is built without a warning, links and anchors included, and its reference has every public name."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import agentmux
import agentmux.testing
from tests.docs.pages import DOCS, ROOT, name_of

PICTURES = [DOCS / "paging.svg", *sorted((DOCS / "explanation").glob("*.svg"))]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with MkDocs's own theme: the other one is large, and changes nothing of what is tested."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--theme", "mkdocs", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_reference_has_every_public_name(site: Path) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").rglob("index.html"))
    for package in (agentmux, agentmux.testing):
        for name in package.__all__:
            thing = getattr(package, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                assert f'id="{thing.__module__}.{thing.__qualname__}"' in text, name


def test_the_reference_shows_no_marks_of_markup(site: Path) -> None:
    for page in site.rglob("index.html"):
        text = page.read_text(encoding="utf-8")
        assert "::</p>" not in text, page
        assert "<p>```" not in text, page


def test_the_site_holds_no_source_of_its_own_making(site: Path) -> None:
    assert not list(site.glob("*.py"))
    assert not list(site.glob("__pycache__"))


def test_pictures_are_found() -> None:
    assert len(PICTURES) >= 4


@pytest.mark.parametrize("path", PICTURES, ids=name_of)
def test_picture_can_be_read_by_everyone(path: Path) -> None:
    """By screen readers, and on light and dark grounds."""
    picture = ElementTree.parse(path).getroot()
    labels = (picture.get("aria-labelledby") or "").split()
    told = {each.get("id"): each.text for tag in ("title", "desc") for each in picture.iter(SVG + tag)}
    assert picture.get("role") == "img"
    assert labels
    assert all(told[label] for label in labels)
    assert "prefers-color-scheme: dark" in "".join(each.text or "" for each in picture.iter(SVG + "style"))
    left, top, width, height = map(float, (picture.get("viewBox") or "").split())
    for text in picture.iter(SVG + "text"):
        assert left <= float(text.get("x", 0)) <= left + width
        assert top <= float(text.get("y", 0)) <= top + height
