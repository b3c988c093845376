"""A C++ source as tokens: brackets, functions, statements and operands.

Enough of the language for sources that clang-format has formatted: an operator between
two operands has spaces around it, a bracket of a template has none.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/|\#(?:[^\n]*\\\n)*[^\n]*)
      | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<number>0[xX][0-9a-fA-F]+\w*|\d[\d.]*(?:[eE][+-]?\d+)?\w*)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<sign>(?<=\s)(?:<<|>>)(?=\s)
          |<=|>=|==|!=|&&|\|\||\+\+|--|->|::|[-+*/%&|^]=|.)
    """,
    re.VERBOSE | re.DOTALL,
)
CONSTANT = re.compile(r"k[A-Z]\w*")
CLOSING = {"(": ")", "[": "]", "{": "}"}
# What no statement begins with that could be deleted.
KEYWORDS = frozenset(
    (
        *("return", "if", "for", "while", "do", "else", "continue", "break", "case"),
        *(
            "const",
            "constexpr",
            "static",
            "static_assert",
            "using",
            "namespace",
            "struct",
            "class",
        ),
        *("enum", "public", "private", "protected", "template", "extern"),
    )
)


class Token(NamedTuple):
    kind: str  # "text", "number", "name" or "sign"
    text: str
    begin: int
    end: int


class Source:
    def __init__(self, name: str, text: str):
        self.name, self.text = name, text
        self.tokens = [
            Token(match.lastgroup or "", match.group(), match.start(), match.end())
            for match in TOKEN.finditer(text)
            if match.lastgroup != "skip"
        ]
        self.partner = self._partners()
        self.frozen = frozenset(self._frozen())

    def __getitem__(self, i: int) -> str:
        return self.tokens[i].text

    def code(self, first: int, last: int) -> str:
        """The text of tokens [first, last), on one line."""
        text = self.text[self.tokens[first].begin : self.tokens[last - 1].end]
        return " ".join(text.split())

    def line(self, i: int) -> str:
        """The line of a token, without its comment."""
        begin = self.text.rfind("\n", 0, self.tokens[i].begin) + 1
        return self.text[begin : self.text.find("\n", begin)].split("//")[0].strip()

    def after(self, i: int) -> int:
        """The token after token i and, if that opens a bracket, after its contents."""
        return max(i, self.partner.get(i, i)) + 1

    def before(self, i: int) -> int:
        return min(i, self.partner.get(i, i)) - 1

    # ---- what is constant, what is a number

    def is_number(self, i: int) -> bool:
        return self.tokens[i].kind == "number" or bool(CONSTANT.fullmatch(self[i]))

    def is_binary(self, i: int) -> bool:
        token = self.tokens[i]
        return self.text[token.begin - 1].isspace() and self.text[token.end].isspace()

    def _partners(self) -> dict[int, int]:
        """Of every bracket the other one."""
        partner: dict[int, int] = {}
        stack: list[int] = []
        for i, (kind, text, begin, _) in enumerate(self.tokens):
            touches = self.tokens[i - 1].end == begin
            template = text == "<" and (touches or self[i - 1] == "template")
            ends_template = text == ">" and stack and self[stack[-1]] == "<"
            if kind != "sign":
                continue
            if text in CLOSING or template:
                stack.append(i)
            elif text in CLOSING.values() or ends_template:
                partner[i] = stack.pop()
        return partner | {opening: closing for closing, opening in partner.items()}

    def _frozen(self) -> Iterator[int]:
        """Tokens that have to be constants."""
        for i, token in enumerate(self.tokens):
            if token.text in ("constexpr", "static_assert"):
                yield from range(i, self.end_of_statement(i))
            elif (token.text == "<" and i in self.partner) or self._bounds_array(i):
                yield from range(i, self.partner[i])

    def _bounds_array(self, i: int) -> bool:
        """A bracket in a declaration: behind a type and a name."""
        type_and_name = self.tokens[i - 2].kind == self.tokens[i - 1].kind == "name"
        return self[i] == "[" and type_and_name and self[i - 2] != "return"

    # ---- functions, statements, operands

    def functions(self) -> Iterator[tuple[str, int, int]]:
        """The name of each, where its parameters close, and its closing brace."""
        i = 0
        while i < len(self.tokens):
            head = i
            while self[i] not in (";", "{", "}"):
                i = self.after(i) if self[i] in ("(", "<") else i + 1
            words = [token.text for token in self.tokens[head:i]]
            if self[i] == "{" and "(" in words and "enum" not in words:
                parameters = head + words.index("(")
                yield self[parameters - 1], self.partner[parameters], self.partner[i]
                i = self.after(i)
            elif self[i] == "{" and "enum" in words:
                i = self.after(i)
            else:
                i += 1  # into a namespace or a class, or behind a declaration

    def end_of_statement(self, i: int) -> int:
        """Its semicolon, or the bracket that closes around it."""
        while i < len(self.tokens) and self[i] not in (";", ")", "]", "}"):
            i = self.after(i)
        return i

    def expression_end(self, first: int) -> int | None:
        """The semicolon of the call, assignment, ++ or -- that begins at `first`."""
        begins = self.tokens[first].kind == "name" or self[first] in ("++", "--")
        if not begins or self[first] in KEYWORDS or not self._may_begin(first):
            return None
        i = first
        while self.tokens[i].kind == "name" or self[i] in ("::", "<"):
            another = self.tokens[i].kind == "name" and self[i - 1] not in ("::", ".")
            if i > first and another:
                return None  # a type and a name
            i = self.after(i)
            if self[i] in ("&", "*") and not self.is_binary(i):
                return None  # a type too
        last = self.end_of_statement(first)
        return last if i < last and self[last] == ";" and self[i] != "{" else None

    def _may_begin(self, first: int) -> bool:
        before, opening = self[first - 1], self.partner.get(first - 1, first)
        if before == ")" and self[opening - 1] not in ("if", "for", "while"):
            return False
        if before == "}" and self.tokens[opening - 1].kind == "name":
            return self[opening - 1] in ("else", "do", "const")  # no value in braces
        return self._enclosing(first) == "{"

    def _enclosing(self, i: int) -> str:
        """The bracket around a token."""
        i -= 1
        while i >= 0 and (self[i] not in CLOSING or self.partner[i] < i):
            i = self.before(i)
        return self[i] if i >= 0 else ""

    def operand_before(self, i: int, stops: str) -> int:
        """Where the operand that ends before token i begins."""
        while self[i - 1] not in stops.split():
            i = self.before(i - 1) + 1
        return i

    def operand_after(self, i: int, stops: str) -> int:
        """Where the operand that begins at token i ends."""
        while self[i] not in stops.split():
            i = self.after(i)
        return i

    def arguments(self, opening: int) -> list[tuple[int, int]]:
        """The tokens of what stands in a bracket, one range for each part."""
        found, first, end = [], opening + 1, self.partner[opening]
        while first < end:
            last = self.operand_after(first, ", ) } ]")
            found.append((first, last))
            first = last + 1
        return found

    def callee(self, opening: int) -> int:
        """The name before a bracket, or before the bracket of its template."""
        return self.before(opening - 1) if self[opening - 1] == ">" else opening - 1
