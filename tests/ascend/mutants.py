"""Mutants of the Ascend C kernels and of their tiling, generated from the sources.

`mutate` writes sources in which every mutant is behind a switch of mutant.h, so that
one library holds all of them. A mutant changes one thing: it deletes a statement or a
pair of flags, forces a condition, leaves a part of one out, takes an operator or an
argument for another, or moves a number, an index or an argument of an instruction by
one.

Only the bodies of functions are changed. Left as they are: what has to be constant
(constexpr, static_assert, enumerators, array bounds, template arguments), defaults of
members and of parameters, text, and operators on bits.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.ascend.cpp_source import CONSTANT, Source

# The switch of mutant.h, and what the operator becomes.
OPERATORS = {
    "<": ("Less", "<="),
    "<=": ("LessEqual", "<"),
    ">": ("Greater", ">="),
    ">=": ("GreaterEqual", ">"),
    "==": ("Equal", "!="),
    "!=": ("Unequal", "=="),
    "+": ("Plus", "-"),
    "-": ("Minus", "+"),
    "*": ("Times", "+"),
    "/": ("Over", "*"),
    "%": ("Modulo", "/"),
}
# Which arguments of an instruction are numbers; of structures of parameters all are.
NUMBERS = {
    "Duplicate": (2,),
    **dict.fromkeys(("Adds", "Muls", "Mins", "Maxs", "Cast", "Gather"), (3, 4)),
    **dict.fromkeys(("Add", "Sub", "Mul", "Min", "And", "MulAddDst"), (3, 4)),
    **dict.fromkeys(("CompareScalar", "GatherMask"), (4,)),
    **dict.fromkeys(("Brcb", "DataCopy"), (2,)),
    "WholeReduceSum": (2, 3, 4, 5, 6),
}
STRUCTURE = re.compile(r"\w+Params")
NO_NUMBERS = {"!=", "{", "false", "true", "strides", "x_lanes"}
# How many of the first arguments of a call may be taken for its result.
CHOICES = {"AlignUp": 1, "Up": 1, "clamp": 1, "Smaller": 2, "min": 2, "max": 2}
HUGE = re.compile(r"[\d.]+e\d+f?")  # numbers that one more does not change
FLAG = re.compile(r"(Set|Wait)Flag<HardEvent::(\w+)>\((.*)\)")
SYNCHRONISATION = re.compile(r"(SetFlag|WaitFlag|PipeBarrier)<")


@dataclass
class Mutant:
    """`key` stays the same where lines move: the file, the line and the change."""

    kind: str
    file: str
    line: str
    change: str
    key: str = ""


@dataclass
class Edit:
    """Code around the characters [begin, end), or in their place: then no `after`."""

    begin: int
    end: int
    before: str
    after: str | None


@dataclass
class Statement:
    """One that can be deleted, and the mutants that do so."""

    first: int  # token
    text: str
    function: str
    edit: Edit
    mutants: list[int] = field(default_factory=list)


class Mutator:
    """Adds the mutants of a source to those of others, and switches them."""

    def __init__(self, source: Source, mutants: list[Mutant]):
        self.source, self.mutants = source, mutants
        self.edits: list[Edit] = []
        self.statements: list[Statement] = []
        for name, first, last in source.functions():
            for i in range(first, last):
                if i not in source.frozen:
                    self._token(i)
                if source[i] in (";", "{", "}", ")", "else"):
                    self._statement(name, i + 1)

    def add(self, kind: str, i: int, change: str) -> int:
        line = self.source.line(i)
        self.mutants.append(Mutant(kind, self.source.name, line, change))
        return len(self.mutants) - 1

    def changed(self) -> str:
        """The source with all switches."""
        for statement in self.statements:
            ids = ", ".join(map(str, statement.mutants))
            statement.edit.before = f"{{ if (mutant::keeps({ids})) "
        changes = []  # where, then what ends before what begins, the smaller inside
        for edit in (*self.edits, *(s.edit for s in self.statements)):
            size = edit.end - edit.begin
            over = size if edit.after is None else 0  # characters that are replaced
            changes.append((edit.begin, 1, -size, edit.before, over))
            if edit.after is not None:
                changes.append((edit.end, 0, size, edit.after, 0))
        text, at = [], 0
        for position, _, _, piece, over in sorted(changes):
            text += [self.source.text[at:position], piece]
            at = position + over
        return "".join([*text, self.source.text[at:]])

    def _edit(self, first: int, last: int, before: str, after: str | None) -> Edit:
        tokens = self.source.tokens
        return Edit(tokens[first].begin, tokens[last - 1].end, before, after)

    def _wrap(self, first: int, last: int, before: str, after: str) -> None:
        self.edits.append(self._edit(first, last, before, after))

    def _replace(self, first: int, last: int, text: str) -> None:
        self.edits.append(self._edit(first, last, text, None))

    def _token(self, i: int) -> None:
        text, source = self.source[i], self.source
        if source.is_number(i):
            if source[i - 1] != "::" and not HUGE.fullmatch(text):
                self._near("number", i, i + 1)
        elif text in OPERATORS and source.is_binary(i):
            self._operator(i)
        elif text in CHOICES:
            self._choice(i)
        elif text in ("if", "while") and source[i + 1] == "(":
            first = source.operand_after(i + 2, "; )")  # what is declared comes first
            last = source.partner[i + 1]
            self._condition(i + 2 if first == last else first + 1, last)
        elif text == "?":
            self._condition(source.operand_before(i, "= ( , { [ ; return : ?"), i)
        elif text in ("&&", "||") and source.is_binary(i):
            self._parts(i)
        elif text == "[" and source.tokens[i - 1].kind == "name":
            self._near("index", i + 1, source.partner[i])
        elif text in ("(", "{"):
            self._arguments(i)

    # ---- numbers, indices and arguments

    def _near(self, kind: str, first: int, last: int) -> None:
        """One more and one less, but nothing below zero."""
        if kind != "number" and last - first == 1 and self.source.is_number(first):
            return  # which is one of the numbers
        what = self.source.code(first, last)
        number = self.add(kind, first, f"{what} -> {what} + 1")
        switch = "more"
        if what not in ("0", "0.0f"):
            self.add(kind, first, f"{what} -> {what} - 1")
            switch = "near"
        self._wrap(first, last, f"mutant::{switch}({number}, ", ")")

    def _arguments(self, opening: int) -> None:
        source = self.source
        name = source.callee(opening)
        if source.tokens[name - 1].kind == "name" and source[name - 1] != "return":
            name -= 1  # a variable, behind its type
        structure = source[opening] == "{" and (
            source[name] == "return" or STRUCTURE.fullmatch(source[name])
        )
        numbers = NUMBERS.get(source[name], ())
        for place, (first, last) in enumerate(source.arguments(opening)):
            words = {token.text for token in source.tokens[first:last]}
            if (structure or place in numbers) and not words & NO_NUMBERS:
                self._near("argument", first, last)

    # ---- operators, choices and conditions

    def _operator(self, i: int) -> None:
        if "text" in (self.source.tokens[i - 1].kind, self.source.tokens[i + 1].kind):
            return
        sign = self.source[i]
        name, other = OPERATORS[sign]
        number = self.add("operator", i, f"{sign} -> {other}")
        self._replace(i, i + 1, f"{sign} mutant::{name}{{{number}}} {sign}")

    def _choice(self, i: int) -> None:
        source = self.source
        opening = source.after(i + 1) if source[i + 1] == "<" else i + 1
        if source[opening] != "(" or source[opening + 1] == "{":
            return
        first = i - 2 if source[i - 1] == "::" else i
        call = source.code(first, source.partner[opening] + 1)
        numbers = [
            self.add("choice", i, f"{call} -> {source.code(*argument)}")
            for argument in source.arguments(opening)[: CHOICES[source[i]]]
        ]
        called = source.code(first, opening)
        function = f"[](auto... x) {{ return {called}(x...); }}"
        text = f"mutant::Instead{{{numbers[0]}, {function}, {len(numbers)}}}"
        self._replace(first, opening, text)

    def _condition(self, first: int, last: int) -> None:
        what = self.source.code(first, last)
        number = self.add("condition", first, f"{what} -> true")
        self.add("condition", first, f"{what} -> false")
        self._wrap(first, last, f"mutant::forced({number}, bool(", "))")

    def _parts(self, i: int) -> None:
        """Of a condition: the part behind token i, and the first one."""
        sign, source = self.source[i], self.source
        parts = [(i + 1, source.operand_after(i + 1, ") , ; ? : } ] && ||"))]
        first = source.operand_before(i, "= ( , { [ ; return : ? && ||")
        if source[first - 1] != sign:
            parts.append((first, i))
        for first, last in parts:
            what = source.code(first, last)
            number = self.add("part", first, f"without {sign} {what}")
            switch, other = ("", "||") if sign == "&&" else ("!", "&&")
            self._wrap(first, last, f"({switch}mutant::is({number}) {other} (", "))")

    # ---- statements

    def _statement(self, function: str, first: int) -> None:
        last = self.source.expression_end(first)
        if last is None:
            return
        text = self.source.code(first, last)
        kind = "synchronisation" if SYNCHRONISATION.match(text) else "statement"
        number = self.add(kind, first, f"without {text}")
        edit = self._edit(first, last + 1, "", " }")
        self.statements.append(Statement(first, text, function, edit, [number]))


Flags = list[tuple[Mutator, Statement]]


def pairs(mutators: list[Mutator]) -> Iterator[tuple[str, Flags]]:
    """Flags that belong together.

    A wait and the nearest set before it in a function; all flags of an event that the
    same constant numbers, in all sources, or that no constant numbers, in one.
    """
    families: defaultdict[tuple[str, str], Flags] = defaultdict(list)
    local: list[Flags] = []
    for mutator in mutators:
        unmatched: dict[tuple[str, str, str], Statement] = {}
        for statement in mutator.statements:
            match = FLAG.fullmatch(statement.text)
            if not match:
                continue
            side, event, number = match.groups()
            constant = CONSTANT.search(number)
            family = constant[0] if constant else f"a number in {mutator.source.name}"
            families[event, family].append((mutator, statement))
            place = (statement.function, event, number)
            if side == "Set":
                unmatched[place] = statement
            elif place in unmatched:
                pair = [(mutator, unmatched.pop(place)), (mutator, statement)]
                local.append(pair)
                yield f"the pair {event}({number}) of {statement.function}", pair
    for (event, family), flags in families.items():
        sides = {statement.text[:3] for _, statement in flags}
        if len(sides) == 2 and flags not in local:
            yield f"all flags {event}({family})", flags


def mutate(sources: dict[str, str]) -> tuple[dict[str, str], list[Mutant]]:
    """The sources by name with a switch for every mutant, and the mutants by number."""
    mutants: list[Mutant] = []
    mutators = [Mutator(Source(name, text), mutants) for name, text in sources.items()]
    for what, flags in pairs(mutators):
        mutator, statement = flags[0]
        number = mutator.add("pair", statement.first, f"without {what}")
        for _, statement in flags:
            statement.mutants.append(number)
    seen: Counter[str] = Counter()
    for mutant in mutants:
        key = f"{mutant.file} | {mutant.line} | {mutant.change}"
        seen[key] += 1
        mutant.key = key if seen[key] == 1 else f"{key} #{seen[key]}"
    return {mutator.source.name: mutator.changed() for mutator in mutators}, mutants


def sources(folder: Path) -> dict[str, str]:
    names = (p for p in folder.iterdir() if p.suffix in (".h", ".cpp"))
    return {path.name: path.read_text() for path in sorted(names)}
