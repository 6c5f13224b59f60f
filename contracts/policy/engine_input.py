"""Input documents for the embedded engine, handed over value by value.

The engine's own Python binding lets other threads run between any two values: with many threads at
work each of some hundred calls may wait for its turn, and a decision for all of them. Here the same
functions of its C API are called without letting go, which takes a third of the time besides.
"""

from __future__ import annotations

import ctypes
from json.encoder import encode_basestring
from typing import Any

from contracts.policy.engine import Plain
from contracts.policy.rego_library import Code, Input, RegoError, library

_api = ctypes.PyDLL(library._name)  # the library that regopy has loaded, not another copy
_handle, _count = ctypes.c_void_p, ctypes.c_uint32

_new = _api.regoNewInput
_new.restype, _new.argtypes = _handle, []


def _function(name: str, *arguments: Any) -> Any:
    found = getattr(_api, name)
    found.restype, found.argtypes = _count, [_handle, *arguments]
    return found


_text = _function("regoInputString", ctypes.c_char_p)
_integer = _function("regoInputInt", ctypes.c_int64)
_number = _function("regoInputFloat", ctypes.c_double)
_boolean = _function("regoInputBoolean", ctypes.c_bool)
_null = _function("regoInputNull")
_item = _function("regoInputObjectItem")
_object = _function("regoInputObject", _count)
_array = _function("regoInputArray", _count)


def build(document: dict[str, Any]) -> Input:
    """A document of plain JSON values as the engine's input. Raises RegoError when it will not take it.

    Texts are given as they would stand between the quotes of JSON: the engine keeps them that way and
    writes them into its answer as they are. Given raw, a quote in a name would end the text there, and
    the rest be read as part of the decision.
    """
    built = Input.__new__(Input)
    built._impl = _new()  # which frees it in the end
    if _feed(built._impl, document) != Code.OK:
        raise RegoError("the engine does not take this input")
    return built


def _feed(handle: int, value: Any) -> int:
    """Hand over a value, its parts first. Anything but 0 says that some part was not taken."""
    kind, failed = type(value), 0
    if kind is str:
        return int(_text(handle, encode_basestring(value)[1:-1].encode()))
    if kind is dict or kind is Plain:
        for key, item in value.items():
            failed |= _text(handle, encode_basestring(key)[1:-1].encode()) | _feed(handle, item) | _item(handle)
        return int(failed | _object(handle, len(value)))
    if kind is list:
        for item in value:
            failed |= _feed(handle, item)
        return int(failed | _array(handle, len(value)))
    if value is None:
        return int(_null(handle))
    if kind is bool:
        return int(_boolean(handle, value))
    return int(_integer(handle, value) if kind is int else _number(handle, value))
