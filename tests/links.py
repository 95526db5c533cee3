"""Looks whether every link of the documents leads somewhere: to a file of this repository, and where
it has a fragment, to a heading there. Links into the internet are not followed.

    python3 tests/links.py        from the root; names each link that leads nowhere, and ends with 1
"""

import pathlib
import re
import sys
import urllib.parse

LINK = re.compile(r"\]\(<?([^)<>\s]+)>?(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)[^`].*?\1")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)


def prose(path):
    """The text of a document without its blocks of code."""
    return FENCE.sub("", path.read_text())


def anchors(path):
    """What a fragment may name in a document: its headings, spelled as GitHub spells them."""
    known = {}
    for heading in HEADING.findall(prose(path)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        text = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        known[text] = known.get(text, -1) + 1
        if known[text]:
            known[f"{text}-{known[text]}"] = 0
    return known


def broken(path, root):
    """The links of a document that lead nowhere, each with the reason."""
    for target in LINK.findall(CODE.sub("", prose(path))):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, fragment = target.partition("#")
        there = (path.parent / urllib.parse.unquote(name)).resolve() if name else path
        if not there.exists():
            yield target, "there is no such file"
        elif not there.is_relative_to(root):
            yield target, "it leads out of the repository"
        elif fragment and there.suffix == ".md" and fragment not in anchors(there):
            yield target, "there is no such heading"


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    documents = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("tests/data/*.md")]
    found = [(path, *link) for path in documents for link in broken(path, root)]
    for path, target, reason in found:
        print(f"{path.relative_to(root)}: {target}: {reason}")
    if not documents or found:
        sys.exit(1)
    print(f"all links of {len(documents)} documents lead somewhere")


if __name__ == "__main__":
    main()
