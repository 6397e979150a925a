"""What a label means in codes that other systems know: SNOMED CT where it has one, else codes of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OWN_SCHEME = "99MEDSEG"
"""Designator of codes that only medseg gives; ``99`` marks a private scheme (PS3.16, 8.2)."""

LONGEST_VALUE = 16
LONGEST_MEANING = 64
TERM_PARTS = ("category", "type", "modifier", "region", "colour")

Names = Mapping[int, Sequence[str]]
"""The names of each label, and its codes as :func:`make_key` has them."""


@dataclass(frozen=True)
class Code:
    """A coded concept (PS3.3, 8.8).

    Args:
        value: Such as ``39607008``.
        scheme: Who gave it: SCT for SNOMED CT, DCM, NCIt, or 99MEDSEG.
        meaning: In words, at most 64 characters.
    """

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Term:
    """What one label stands for (PS3.3, C.8.20.4).

    Args:
        category: What kind of thing it is, such as an anatomical structure.
        kind: What it is.
        modifier: Which of several, such as left or right.
        region: Where in the body it is, for what may be anywhere.
        colour: Red, green and blue from 0 to 255 in which viewers should show it.
    """

    category: Code
    kind: Code
    modifier: Code | None = None
    region: Code | None = None
    colour: tuple[int, int, int] | None = None

    @property
    def key(self) -> str:
        """One text for type and modifier, by which segments of other programs are recognised."""
        return make_key(self.kind.scheme, self.kind.value, self.modifier.value if self.modifier else "")


def make_key(scheme: str, value: str, modifier: str = "") -> str:
    """Scheme, code and the modifier's code in one text.

    >>> make_key("SCT", "39607008", "7771000")
    'SCT 39607008 7771000'
    """
    return " ".join(part for part in (scheme, value, modifier) if part)


def drop_modifier(key: str) -> str:
    """A key without its modifier.

    >>> drop_modifier("SCT 39607008 7771000")
    'SCT 39607008'
    """
    return " ".join(key.split()[:2])


def list_known_names(labels: Mapping[int, str], terms: Mapping[int, Term]) -> dict[int, list[str]]:
    """By which names and codes a segment is recognised as each label.

    A code without a modifier stands for a label that alone has it: both the left and the right
    lung are lungs.

    >>> lung = Term(Code("91723000", "SCT", "Anatomical Structure"), Code("39607008", "SCT", "Lung"))
    >>> list_known_names({0: "background", 1: "lungs"}, {1: lung})
    {0: ['background'], 1: ['lungs', 'SCT 39607008']}
    """
    bases = [drop_modifier(term.key) for term in terms.values()]
    known: dict[int, list[str]] = {}
    for label, name in labels.items():
        keys = [terms[label].key] if label in terms else []
        keys += [base for base in map(drop_modifier, keys) if bases.count(base) == 1 and base not in keys]
        known[label] = [name, *keys]
    return known


def dump_terms(terms: Mapping[int, Term]) -> dict[str, dict[str, list[str] | list[int]]]:
    """Terms as plain values, as ``read_terms`` takes them."""
    plain: dict[str, dict[str, list[str] | list[int]]] = {}
    for label, term in terms.items():
        codes = {"category": term.category, "type": term.kind, "modifier": term.modifier, "region": term.region}
        plain[str(label)] = {part: [code.value, code.scheme, code.meaning] for part, code in codes.items() if code}
        if term.colour:
            plain[str(label)]["colour"] = list(term.colour)
    return plain


def make_own_term(value: int, name: str) -> Term:
    """A term for a label that no bundle has coded: its name under a private code."""
    kind = Code(f"LABEL{value}"[:LONGEST_VALUE], OWN_SCHEME, name[:LONGEST_MEANING])
    return Term(Code("STRUCTURE", OWN_SCHEME, "Segmented structure"), kind)


def read_terms(content: object) -> dict[int, Term]:
    """Terms by label, from the plain values of a bundle's settings or metadata.

    Args:
        content: For each label ``category`` and ``type``, perhaps ``modifier`` and ``region``, each
            ``[value, scheme, meaning]``, and perhaps ``colour``, ``[red, green, blue]``.

    Raises:
        ValueError: With what is wrong, in words.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"terminology is no table but {content!r}")
    terms = {}
    for label, parts in content.items():
        if not str(label).isdecimal() or not isinstance(parts, Mapping):
            raise ValueError(f"terminology of {label!r} is no table of a label's codes")
        if unknown := sorted(set(parts) - set(TERM_PARTS)):
            raise ValueError(
                f"terminology of {label}: {', '.join(map(str, unknown))} is none of {', '.join(TERM_PARTS)}"
            )
        if not {"category", "type"} <= set(parts):
            raise ValueError(f"terminology of {label} lacks a category or a type")
        terms[int(label)] = _read_term(parts)
    return terms


def _read_term(parts: Mapping[str, object]) -> Term:
    codes = {part: _read_code(parts[part]) for part in TERM_PARTS[:4] if part in parts}
    colour = _read_colour(parts["colour"]) if "colour" in parts else None
    return Term(codes["category"], codes["type"], codes.get("modifier"), codes.get("region"), colour)


def _read_code(content: object) -> Code:
    if not isinstance(content, list | tuple) or len(content) != 3:
        raise ValueError(f"{content!r} is no code: give [value, scheme, meaning]")
    value, scheme, meaning = (str(part) for part in content)
    if not all((value, scheme, meaning)) or max(len(value), len(scheme)) > LONGEST_VALUE:
        raise ValueError(f"{content!r} is no code: value and scheme have 1 to {LONGEST_VALUE} characters")
    if len(meaning) > LONGEST_MEANING:
        raise ValueError(f"the meaning {meaning!r} is longer than {LONGEST_MEANING} characters")
    return Code(value, scheme, meaning)


def _read_colour(content: object) -> tuple[int, int, int]:
    if isinstance(content, list | tuple) and len(content) == 3 and all(part in range(256) for part in content):
        red, green, blue = (int(part) for part in content)
        return red, green, blue
    raise ValueError(f"{content!r} is no colour: give [red, green, blue] from 0 to 255")
