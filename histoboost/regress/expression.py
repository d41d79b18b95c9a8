"""Parse feature-set expressions and resolve them to embeddings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from histoboost.errors import BadInput

#: The default expression, see `_default`.
DEFAULT_FEATURES = "default"
#: Areas of `default`, in percent of the slide's spots.
DEFAULT_AREAS = (1, 10, 90)
COORDS = "coords"
_AROUND = re.compile(r"(?P<name>.+):(?:ring(?P<rings>[1-9]\d?)|area(?P<area>[1-9]\d?|100))")
_PCA = re.compile(r"pca:(?P<components>[1-9]\d{0,4})\((?P<inner>.*)\)", re.DOTALL)
_FORBIDDEN = set(":,()")


@dataclass(frozen=True)
class Term:
    """One term of a feature-set expression.

    `name` is a name or shell glob of an embedding, or ``"coords"``; with `rings` K, averaged over
    the spots at graph distance 1..K, with `area` K, over a disc around the spot of K % of the
    slide. A ``pca`` term has no name and reduces the columns of `inner` to `components`.
    """

    name: str
    rings: int = 0
    area: int = 0
    components: int = 0
    inner: tuple[Term, ...] = ()

    @property
    def plain(self) -> tuple[Term, ...]:
        """The term itself, or the inner ones of a ``pca`` term."""
        return self.inner or (self,)

    def __str__(self) -> str:
        if self.components:
            return f"pca:{self.components}({'+'.join(map(str, self.inner))})"
        return f"{self.name}:{self.around}" if self.around else self.name

    @property
    def around(self) -> str:
        """``"ring3"``, ``"area10"``, or empty for the spot itself."""
        return f"ring{self.rings}" if self.rings else f"area{self.area}" if self.area else ""


def parse_features(spec: str) -> tuple[Term, ...]:
    """Parse a feature-set expression ``TERM+TERM+...``.

    A term is an embedding name or shell glob, optionally with ``:ringK`` or ``:areaK``, or
    ``coords``, ``pca:K(TERM+...)`` or ``default``.

    >>> [str(term) for term in parse_features("resnet50@64 + pca:32(resnet50@*:ring1) + coords")]
    ['resnet50@64', 'pca:32(resnet50@*:ring1)', 'coords']
    """
    return _parse(spec, spec)


def _parse(text: str, spec: str) -> tuple[Term, ...]:
    """Parse the terms between plus signs outside parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            break
        if character == "+" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth != 0:
        raise BadInput(f"features {spec!r}: parentheses do not match; write pca:64(NAME)")
    return tuple(_parse_term(part.strip(), spec) for part in parts)


def _parse_term(text: str, spec: str) -> Term:
    if not text:
        raise BadInput(
            f"features {spec!r}: a term is empty; write NAME, NAME:ring1 or coords, joined by +"
        )
    pca = _PCA.fullmatch(text)
    if pca:
        inner = _parse(pca["inner"], spec)
        if any(term.components for term in inner):
            raise BadInput(f"features {spec!r}: pca inside pca; reduce once")
        return Term("", components=int(pca["components"]), inner=inner)
    around = _AROUND.fullmatch(text)
    name = around["name"] if around else text
    rings, area = (int(around[k] or 0) if around else 0 for k in ("rings", "area"))
    if _FORBIDDEN & set(name):
        raise BadInput(
            f"features {spec!r}: cannot read {text!r}; write NAME, NAME:ring1, NAME:area10, coords "
            "or pca:64(NAME)"
        )
    if name in (COORDS, DEFAULT_FEATURES) and around:
        raise BadInput(f"features {spec!r}: {name} has no neighbourhood; write {name}")
    return Term(name, rings, area)


def resolve(terms: Sequence[Term], known: Sequence[str], where: str) -> tuple[Term, ...]:
    """Replace globs by the `known` embeddings of store `where`, without duplicates.

    >>> terms = parse_features("resnet18@*+resnet18@64")
    >>> [str(term) for term in resolve(terms, ["resnet18@64", "resnet18@128"], "store")]
    ['resnet18@64', 'resnet18@128']
    """
    found: dict[Term, None] = {}
    for term in terms:
        if term.components:
            inner = resolve(term.inner, known, where)
            found.setdefault(Term("", components=term.components, inner=inner))
        elif term.name == DEFAULT_FEATURES:
            found |= dict.fromkeys(_default(_matches(Term("*"), known, where)))
        else:
            names = _matches(term, known, where)
            found |= {Term(name, term.rings, term.area): None for name in names}
    return tuple(found)


def _default(names: Sequence[str]) -> list[Term]:
    """All embeddings, with their means over `DEFAULT_AREAS`.

    The surroundings of a spot, at several scales, are informative of its tissue. Standard
    deviations within the patch (``.std``) are used without means, which reflect stain and scanner
    and lose more on new patients than they gain elsewhere.
    """
    around = [Term(name, area=area) for area in DEFAULT_AREAS for name in names]
    return [*map(Term, names), *(term for term in around if not term.name.endswith(".std"))]


def _matches(term: Term, known: Sequence[str], where: str) -> list[str]:
    if term.name == COORDS:
        return [COORDS]
    names = [name for name in _natural(known) if fnmatchcase(name, term.name)]
    if not names:
        there = ", ".join(_natural(known)) or (
            "none that is complete on all of these slides, see histoboost cache list and run "
            "histoboost featurize"
        )
        raise BadInput(f"{where}: no embedding matches {term.name!r}; there are {there}")
    return names


def _natural(names: Sequence[str]) -> list[str]:
    """Sort with numbers by value, so that @64 comes before @128."""
    return sorted(
        names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)]
    )
