"""The child that renders templates: started by `template`, fed on stdin, answering on stdout, with nothing else in reach.

    stdin   {"values": {...}, "work": [["template", TEXT], ["expression", TEXT], ...]}
    stdout  [0]                                begun, so that the piece that kills it is known
            [0, {"text": ..., "lines": [..]}]  or {"value": ..} or {"error": .., "line": .., "rule": ..}

A template is a program, and jinja's own sandbox keeps it from objects, not from time and memory. So the limits are the
kernel's: memory, CPU time, size of the answer, no new descriptor (no file, no socket, no process), no privilege.
Standard library and jinja only; it never sees the rest of the package.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import sys
import time
from typing import Any

MEMORY_BYTES = 256 << 20
CPU_S = 2
ENOUGH_S = 1.0
"""Whoever has used this much leaves the rest to a fresh child: many small pieces are no bomb."""
ANSWER_BYTES = 64 << 20
RENDERED_BYTES = 1 << 20
MAX_DEPTH = 64

_NO_NEW_PRIVS = 38
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_NOBODY = 65534

_BREAKS_YAML = re.compile(
    r"""[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff'"\\{}\[\],`]|^[#&*!|>%@\s]|^[-?:](?:\s|$)|^---|^\.\.\.|:(?:\s|$)|\s(?:\#|$)"""
)
"""What a plain word must not have, wherever it stands, or the YAML around it becomes another."""
_UNPRINTED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")
_QUOTE = "write {{ ... | tojson }}"
_MARK = re.compile("\ue000([0-9]+)\ue001")
_LEADING_MARKS = re.compile("(?:[ \t]*\ue000([0-9]+)\ue001)+")


def main() -> None:
    """Renders what stdin asks for."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (ANSWER_BYTES, ANSWER_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(0, "rb", closefd=False) as asked:
        request = json.load(asked)
    renderer = _Renderer(request["values"])
    _shut()
    for index, (kind, text) in enumerate(request["work"]):
        _say([index])
        _say([index, renderer.template(text) if kind == "template" else renderer.expression(text)])
        if time.process_time() > ENOUGH_S:
            return


def _say(line: Any) -> None:
    data = json.dumps(line).encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


def _shut() -> None:
    """Closes the world: from here on nothing can be opened, started or connected to."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    abi = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if abi > 0:  # kernels without it have the other limits
        files = (1 << (13 if abi == 1 else 14 if abi == 2 else 15 if abi < 5 else 16)) - 1
        rules = (ctypes.c_uint64 * 3)(files, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
        size = 24 if abi >= 6 else 16 if abi >= 4 else 8
        ruleset = libc.syscall(_LANDLOCK_CREATE, ctypes.byref(rules), ctypes.c_size_t(size), 0)
        if ruleset < 0 or libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) != 0:
            raise OSError(ctypes.get_errno(), "landlock")
        os.close(ruleset)
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        except PermissionError:
            pass  # a root without the right to become somebody else has few others
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


class _Refused(Exception):
    """A value that may not stand where it is put, and what to write instead."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.help = help


class _Renderer:
    """Jinja with plain values: undefined names are errors, nothing is loaded, the same gives the same each time."""

    def __init__(self, values: dict[str, Any]) -> None:
        # what jinja imports at need must be here before the door is shut
        import pprint  # noqa: F401
        import textwrap  # noqa: F401

        import jinja2.debug
        import jinja2.sandbox
        from markupsafe import Markup

        class Undefined(jinja2.StrictUndefined):
            """Says what is missing in the words of who wrote the values."""

            @property
            def _undefined_message(self) -> str:
                name, obj = self._undefined_name, self._undefined_obj
                if self._undefined_hint:
                    return self._undefined_hint
                if obj is jinja2.utils.missing:
                    return f"there is no value {name!r}"
                return f"there is no {name!r} in {_kind(obj)}"

        class Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
            """`cfg.items` is the value of that name, not the method of a dict."""

            def getattr(self, obj: Any, attribute: str) -> Any:
                if isinstance(obj, dict) and attribute in obj:
                    return obj[attribute]
                return super().getattr(obj, attribute)

        def finalize(value: Any) -> Any:
            return Markup(_inserted(value))

        self._jinja = jinja2
        self._values = values
        self._undefined = jinja2.Undefined
        self._templates = Environment(
            undefined=Undefined,
            autoescape=True,  # not for HTML: it tells what a template wrote itself from what comes of values
            finalize=finalize,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._templates.filters["tojson"] = lambda value: Markup(_json(value))
        self._expressions = Environment(undefined=Undefined)
        self._expressions.filters["tojson"] = _json
        for environment in (self._templates, self._expressions):
            del environment.filters["random"], environment.globals["lipsum"]
        self.template("{% if 1 %}{{ 'x' | tojson }}{% endif %}")  # its codecs, too, are loaded at need
        self.expression("1 / 0")

    def template(self, text: str) -> dict[str, Any]:
        """The text of a whole file, and for each of its lines the template's."""
        try:
            rendered = self._templates.from_string(text).render(self._values)
            if len(rendered.encode()) > RENDERED_BYTES:
                return {"error": f"renders to more than {RENDERED_BYTES} bytes", "rule": "template-limit"}
            return {"text": str(rendered), "lines": self._lines(text, rendered)}
        except Exception as error:
            return self._failed(error)

    def expression(self, text: str) -> dict[str, Any]:
        """The value of one expression, plain data only."""
        try:
            value = self._expressions.compile_expression(text, undefined_to_none=False)(self._values)
            if isinstance(value, self._undefined):
                str(value)  # raises what is missing
            return {"value": _plain(value, 0)}
        except Exception as error:
            return self._failed(error)

    def _lines(self, text: str, rendered: str) -> list[int]:
        """Rendered once more with the template's line numbers in its own text; [] if that gave another text."""
        tree = self._templates.parse(text)
        for node in tree.find_all(self._jinja.nodes.TemplateData):
            first, *others = node.data.split("\n")
            marked = [f"\ue000{node.lineno}\ue001{first}"]
            marked += [f"\ue000{node.lineno + past}\ue001{line}" for past, line in enumerate(others, 1)]
            node.data = "\n".join(marked)
        code = self._templates.compile(tree)
        globals_ = self._templates.make_globals(None)
        again = self._templates.template_class.from_code(self._templates, code, globals_).render(self._values)
        if _MARK.sub("", again) != rendered:
            return []
        lines, here = [], 1
        for line in again.split("\n"):
            leading = _LEADING_MARKS.match(line)
            lines.append(int(leading[1]) if leading else here)
            here = int(([here, *_MARK.findall(line)])[-1])
        return lines

    def _failed(self, error: Exception) -> dict[str, Any]:
        """What to say of it, at the template's line."""
        rule, line = "template", 1
        if isinstance(error, self._jinja.TemplateSyntaxError):
            return {"error": str(error.message), "line": error.lineno, "rule": rule}
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename in ("<template>", "<unknown>"):
                line = trace.tb_lineno
            trace = trace.tb_next
        said = str(error) or type(error).__name__
        if isinstance(error, self._jinja.UndefinedError):
            rule = "undefined-value"
        elif isinstance(error, MemoryError):
            said, rule = f"it takes more than {MEMORY_BYTES >> 20} MiB of memory", "template-limit"
        elif isinstance(error, RecursionError | OverflowError):
            rule = "template-limit"
        elif isinstance(error, _Refused):
            return {"error": said, "line": line, "rule": rule, "help": error.help}
        return {"error": said, "line": line, "rule": rule}


def _inserted(value: Any) -> str:
    """A value as it may stand in YAML text. Raises _Refused for what would change the text around it."""
    if isinstance(value, str):
        if not hasattr(value, "__html__") and _BREAKS_YAML.search(value):
            raise _Refused(f"{_cut(value)} would change the YAML around it", _QUOTE)
        return value
    if value is None or isinstance(value, bool | int | float):
        return _json(value)
    if isinstance(value, list | tuple | dict):
        raise _Refused(f"{_kind(value)} cannot stand in text", _QUOTE)
    if not hasattr(value, "__html__"):
        str(value)  # what is undefined raises here
        raise _Refused(f"{_kind(value)} is not a value")
    return str(value)


def _json(value: Any) -> str:
    """JSON that YAML reads as the same value."""
    text = json.dumps(_plain(value, 0), ensure_ascii=False, allow_nan=False)
    return _UNPRINTED.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _plain(value: Any, depth: int) -> Any:
    """The value as JSON has it. Raises _Refused for anything that is more than data."""
    if depth > MAX_DEPTH:
        raise _Refused(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    raise _Refused(f"{_kind(value)} is not a value")


def _kind(value: Any) -> str:
    """What to call it."""
    if value is None or isinstance(value, bool | int | float | str):
        return _cut(value)
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a {type(value).__name__}"


def _cut(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:60] + "..."


if __name__ == "__main__":
    sys.setrecursionlimit(500)
    main()
