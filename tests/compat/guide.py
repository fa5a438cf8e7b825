"""Read a guide's code blocks and shell commands; nothing of any guide is kept here."""

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and the heading it stands under."""

    language: str
    text: str
    heading: str

    def commands(self) -> list[str]:
        """Return the shell commands of the block, continued lines joined by the shell itself."""
        commands: list[str] = []
        open_ended = False
        for line in self.text.splitlines():
            if open_ended:
                commands[-1] += "\n" + line
            elif line.strip() and not line.lstrip().startswith("#"):
                commands.append(line)
            else:
                continue
            open_ended = line.endswith("\\")
        return commands


def read_blocks(path: Path) -> list[Block]:
    """Return every fenced block of a Markdown text, in order."""
    text = path.read_text(encoding="utf-8")
    blocks = []
    for match in FENCE.finditer(text):
        headings = re.findall(r"^#+ (.*)$", text[: match.start()], re.MULTILINE)
        blocks.append(Block(match[1], match[2], headings[-1] if headings else ""))
    return blocks


class Guide:
    """The blocks of one guide, found by what they are for."""

    def __init__(self, path: Path) -> None:
        self.blocks = read_blocks(path)

    def one(self, language: str, containing: str) -> Block:
        """Return the first block of a language whose text contains a marker."""
        for block in self.blocks:
            if block.language == language and containing in block.text:
                return block
        raise AssertionError(f"the guide has no {language} block with {containing!r}")

    def all(self, language: str, containing: str) -> list[Block]:
        """Return all blocks of a language whose text contains a marker, in order."""
        return [b for b in self.blocks if b.language == language and containing in b.text]
