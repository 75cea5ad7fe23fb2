#!/usr/bin/env python3
"""Makes demo/corpus/austen.txt: one sentence per line from Debian's r-cran-janeaustenr package.

    apt-get download r-cran-janeaustenr
    scripts/make-corpus.py r-cran-janeaustenr_1.0.0-1_all.deb > demo/corpus/austen.txt

Needs Python 3.9 and dpkg-deb, no Python package. The output depends on nothing but the package,
whose digest is checked, so anybody can make the same file again.
"""

import hashlib
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

PACKAGE_SHA256 = "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95"
DATA = "usr/lib/R/site-library/janeaustenr/data/Rdata"
NOVELS = ["prideprejudice", "persuasion"]
SENTENCES = 6000
MIN_CHARS, MAX_CHARS, MIN_WORDS = 20, 400, 4

ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'—])(?:Mr|Mrs|Messrs|Dr|St|Col|Capt|Esq|Hon|Rev|Sir|Bart|viz|&c|[A-Z])\.$"
)
# The end of a sentence: its mark, closing quotes and brackets, then a space before a new start.
END = re.compile(r"(?<=[.?!])[\"')\]]*\s+(?=[\"'(\[]*[A-Z])")
HEADING = re.compile(
    r"^(chapter\b.*|volume\b.*|finis|the end|by jane austen.*|\(?1[78]\d\d\)?|[^a-z]*)$", re.I
)


class Serialized:
    """The few parts of R's XDR serialization that this package's data use."""

    def __init__(self, data):
        if data[:2] != b"X\n":
            sys.exit("not an R XDR serialization")
        self.data, self.at = data, 2
        version, _, _ = self.integer(), self.integer(), self.integer()
        if version == 3:
            self.take(self.integer())

    def take(self, count):
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self):
        return struct.unpack(">i", self.take(4))[0]

    def item(self):
        flags = self.integer()
        kind = flags & 0xFF
        if kind == 0xFE:  # the end of a pair list
            return None
        if kind == 0xFF:  # a symbol that was named before; only names are referred to here
            return "names"
        if kind == 1:
            return self.item()
        if kind == 2:  # one attribute: tag, value, rest
            tag, value, rest = self.item(), self.item(), self.item()
            return {tag: value, **(rest or {})}
        if kind == 9:
            return self.take(self.integer()).decode()
        if kind in (10, 13):
            return [self.integer() for _ in range(self.integer())]
        if kind in (16, 19):
            values = [self.item() for _ in range(self.integer())]
            names = self.item()["names"] if flags & 0x200 else None
            return dict(zip(names, values)) if names else values
        sys.exit(f"R type {kind} is not one that this reader knows")


def novels(package):
    """Yields the lines of each novel, read from the package's lazy-load database."""
    if hashlib.sha256(Path(package).read_bytes()).hexdigest() != PACKAGE_SHA256:
        sys.exit(f"{package} is not version 1.0.0-1 of the package: its digest differs")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        index = Path(folder, DATA + ".rdx").read_bytes()
        database = Path(folder, DATA + ".rdb").read_bytes()
    places = Serialized(zlib.decompress(index, 47)).item()["variables"]
    for novel in NOVELS:
        start, length = places[novel]
        yield Serialized(zlib.decompress(database[start + 4 : start + length])).item()


def paragraphs(lines):
    """Joins lines up to the next blank one, without headings."""
    current = []
    for line in [*lines, ""]:
        line = line.strip()
        if line and not HEADING.match(line):
            current.append(line)
        elif current:
            yield " ".join(current)
            current = []


def sentences(paragraph):
    """Cuts a paragraph at sentence ends, joining what is too short to stand alone to the next."""
    text = re.sub(r"\s+", " ", re.sub(r"--+", "—", paragraph.replace("_", ""))).strip()
    pieces, start = [], 0
    for end in END.finditer(text):
        if not ABBREVIATION.search(text[start : end.start()]):
            pieces.append(text[start : end.end()].strip())
            start = end.end()
    held = ""
    for piece in [*pieces, text[start:]]:
        held = f"{held} {piece}".strip()
        if len(held) >= MIN_CHARS and len(held.split()) >= MIN_WORDS:
            yield unquoted(held)
            held = ""


def unquoted(sentence):
    """Gives a quotation its other mark when that is in another sentence, and drops outer marks."""
    # An opening mark stands before a word and not right after one; `life—" he said` closes.
    opening = [
        re.fullmatch(r'(?:.*[\s—(])?"[^\s"]', sentence[: mark.end() + 1]) is not None
        for mark in re.finditer('"', sentence)
    ]
    if opening and not opening[0]:
        sentence = f'"{sentence}'
    if opening and opening[-1]:
        sentence = f'{sentence}"'
    if sentence.startswith('"') and sentence.endswith('"') and sentence.count('"') == 2:
        sentence = sentence[1:-1]
    return sentence.strip()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    chosen = {}
    for lines in novels(sys.argv[1]):
        for paragraph in paragraphs(lines):
            for sentence in sentences(paragraph):
                ends = sentence.rstrip("\"')")[-1:] in (".", "?", "!", "—")
                if ends and MIN_CHARS <= len(sentence) <= MAX_CHARS:
                    chosen.setdefault(sentence)
    sys.stdout.write("".join(f"{sentence}\n" for sentence in list(chosen)[:SENTENCES]))


main()
