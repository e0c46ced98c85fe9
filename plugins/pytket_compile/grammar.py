# SPDX-License-Identifier: Apache-2.0
"""The grammar of OpenQASM 2.0: tokens to statements, by recursive descent. Only ifs nest, and to a bounded depth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from qcos_plugins.pytket_compile.expressions import FUNCTIONS, Expression, parse_expression
from qcos_plugins.pytket_compile.failure import SourceError
from qcos_plugins.pytket_compile.syntax import (
    Argument,
    Barrier,
    Call,
    Definition,
    If,
    Include,
    Measure,
    Register,
    Reset,
    Statement,
)
from qcos_plugins.pytket_compile.tokens import Token, TokenStream

from qcosd.qec.program import MAX_DEPTH

COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")
KEYWORDS: Final = frozenset(
    ("OPENQASM", "include", "qreg", "creg", "gate", "opaque", "measure", "reset", "barrier", "if", "U", "CX", "pi")
) | frozenset(FUNCTIONS)


def statements_of(text: str) -> Iterator[Statement]:
    """The statements of a program in order, read as they are asked for. Raises SourceError at the first wrong one."""
    parser = _Parser(TokenStream(text))
    parser.header()
    while parser.tokens.peek().kind != "end":
        yield parser.statement()


def definitions_of(text: str) -> Iterator[Definition]:
    """The gate definitions of a file that holds nothing else and no header, such as qelib1.inc."""
    parser = _Parser(TokenStream(text))
    while parser.tokens.peek().kind != "end":
        yield parser.definition()


class _Parser:
    def __init__(self, tokens: TokenStream) -> None:
        self.tokens = tokens

    def header(self) -> None:
        token = self.tokens.peek()
        if not self.tokens.skip("OPENQASM"):
            raise SourceError(token.line, f"an OpenQASM program begins with 'OPENQASM 2.0;', not with {token}")
        version = self.tokens.take()
        if version.kind not in ("int", "real"):
            raise SourceError(version.line, f"the version of OpenQASM is expected, {version} is found")
        if version.text not in ("2.0", "2"):
            raise SourceError(
                version.line, f"OpenQASM {version.text[:40]} is not read, only OpenQASM 2.0 and 3", "unsupported"
            )
        self.tokens.expect(";")

    def statement(self) -> Statement:
        token = self.tokens.peek()
        if token.kind != "id":
            raise SourceError(token.line, f"a statement is expected, {token} is found")
        if token.text == "include":
            return self._include()
        if token.text in ("qreg", "creg"):
            return self._register()
        if token.text in ("gate", "opaque"):
            return self.definition()
        if token.text == "barrier":
            return self._barrier()
        if token.text == "if":
            return self._if()
        return self._operation()

    def definition(self) -> Definition:
        line = self.tokens.line
        opaque = self.tokens.skip("opaque")
        if not opaque:
            self.tokens.expect("gate")
        name = self._name("the name of a gate").text
        parameters: tuple[str, ...] = ()
        if self.tokens.skip("("):
            if not self.tokens.at(")"):
                parameters = self._names("the name of a parameter")
            self.tokens.expect(")")
        qubits = self._names("the name of a qubit")
        if opaque:
            self.tokens.expect(";")
            return Definition(name, parameters, qubits, None, line)
        self.tokens.expect("{")
        body: list[Call | Barrier] = []
        while not self.tokens.skip("}"):
            token = self.tokens.peek()
            if token.text in ("measure", "reset", "if") and token.kind == "id":
                raise SourceError(token.line, f"the body of a gate holds gates and barriers, no {token.text}")
            body.append(self._barrier() if self.tokens.at("barrier") else self._call())
        return Definition(name, parameters, qubits, tuple(body), line)

    def _include(self) -> Include:
        line = self.tokens.take().line
        path = self.tokens.expect_kind("string", "the name of a file in quotes").text
        self.tokens.expect(";")
        return Include(path, line)

    def _register(self) -> Register:
        keyword = self.tokens.take()
        name = self._name("the name of a register").text
        self.tokens.expect("[")
        size = int(self.tokens.expect_kind("int", "the size of the register").text)
        self.tokens.expect("]")
        self.tokens.expect(";")
        return Register(keyword.text == "qreg", name, size, keyword.line)

    def _barrier(self) -> Barrier:
        line = self.tokens.take().line
        arguments = self._arguments()
        self.tokens.expect(";")
        return Barrier(arguments, line)

    def _if(self, depth: int = 1) -> If:
        line = self.tokens.take().line
        if depth > MAX_DEPTH:
            raise SourceError(line, f"more than {MAX_DEPTH} ifs stand inside one another")
        self.tokens.expect("(")
        subject = self._argument()
        comparison = self.tokens.take()
        if comparison.text not in COMPARISONS:
            raise SourceError(comparison.line, f"'==' is expected, {comparison} is found")
        value = int(self.tokens.expect_kind("int", "a whole number").text)
        self.tokens.expect(")")
        if self.tokens.at("barrier"):
            raise SourceError(self.tokens.line, "an if guards a gate, a measure, a reset or another if, no barrier")
        body = self._if(depth + 1) if self.tokens.at("if") else self._operation()
        return If(subject, comparison.text, value, body, line)

    def _operation(self) -> Call | Measure | Reset:
        line = self.tokens.line
        if self.tokens.skip("measure"):
            source = self._argument()
            self.tokens.expect("->")
            target = self._argument()
            self.tokens.expect(";")
            return Measure(source, target, line)
        if self.tokens.skip("reset"):
            argument = self._argument()
            self.tokens.expect(";")
            return Reset(argument, line)
        return self._call()

    def _call(self) -> Call:
        token = self.tokens.take()
        if token.kind != "id":
            raise SourceError(token.line, f"a gate is expected, {token} is found")
        if token.text in KEYWORDS and token.text not in ("U", "CX"):
            raise SourceError(token.line, f"{token} cannot stand here")
        parameters: list[Expression] = []
        if self.tokens.skip("(") and not self.tokens.skip(")"):
            parameters.append(parse_expression(self.tokens))
            while self.tokens.skip(","):
                parameters.append(parse_expression(self.tokens))
            self.tokens.expect(")")
        arguments = self._arguments()
        self.tokens.expect(";")
        return Call(token.text, tuple(parameters), arguments, token.line)

    def _arguments(self) -> tuple[Argument, ...]:
        arguments = [self._argument()]
        while self.tokens.skip(","):
            arguments.append(self._argument())
        return tuple(arguments)

    def _argument(self) -> Argument:
        token = self._name("a register")
        index: int | None = None
        if self.tokens.skip("["):
            index = int(self.tokens.expect_kind("int", "an index").text)
            self.tokens.expect("]")
        return Argument(token.text, index, token.line)

    def _names(self, meaning: str) -> tuple[str, ...]:
        names = [self._name(meaning).text]
        while self.tokens.skip(","):
            names.append(self._name(meaning).text)
        return tuple(names)

    def _name(self, meaning: str) -> Token:
        token = self.tokens.expect_kind("id", meaning)
        if token.text in KEYWORDS:
            raise SourceError(token.line, f"{meaning} is expected, {token} is a word of the language")
        return token
