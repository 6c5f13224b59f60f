"""The embedded engine's library, loaded so that all C++ of the process shares one heap.

The library brings an allocator of its own and exports it as C++'s `new` and `delete`. Where it is the
first to load the system's libstdc++, that one binds to it, so that what Arrow and gRPC take from one
heap they give back to the other, which ignores it: everything they free is lost. 340 kB of HTTP/2 pings
then cost a gateway gigabytes. Where libstdc++ was there before but not in view of all, it is the engine
that loses what it frees. So libstdc++ is made visible to everybody first: all of them use its heap.

Nothing else may import regopy (decision 34).
"""

from __future__ import annotations

import ctypes
import sys

if sys.platform == "linux":  # elsewhere a library's names are bound to the library that it was linked with
    ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)

from regopy import Bundle, Input, Interpreter, LogLevel, RegoError
from regopy.rego_shared import Code
from regopy.rego_shared import rego as library

__all__ = ["Bundle", "Code", "Input", "Interpreter", "LogLevel", "RegoError", "library"]
