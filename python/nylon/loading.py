"""From the configuration's ``file: x.py`` or ``module: package.module`` to a plugin object.

A file becomes a private module of its own name, so that two plugins may both be called ``plugin.py`` and a file
can be loaded again. Errors are the plugin author's: they name the author's file and line, and nothing of ours.
"""

import importlib
import importlib.machinery
import importlib.util
import itertools
import linecache
import os
import sys
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from nylon.errors import NylonError, PluginError
from nylon.plugin import NylonPlugin

__all__ = ["load_file", "load_module", "plugin_error", "unload"]

_numbers = itertools.count(1)
_private: weakref.WeakKeyDictionary[NylonPlugin, str] = weakref.WeakKeyDictionary()
_own = str(Path(__file__).parent) + os.sep


class _FreshLoader(importlib.machinery.SourceFileLoader):
    """Compiles the file as it is now: a ``.pyc`` would count as fresh until the second of the change is over."""

    source: bytes | None = None
    """What to compile instead."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        source = self.get_data(path) if self.source is None else self.source
        code: CodeType = self.source_to_code(source, path)
        return code


def load_file(path: str, attribute: str = "plugin", source: bytes | None = None) -> NylonPlugin:
    """Loads a plugin from a Python file. Its directory is put on ``sys.path``, as Python does for a script.

    ``source`` is what the file held when somebody else read it.

    Raises:
        PluginError: there is no such file, it does not compile, importing it raised, or the attribute is missing
            or no plugin. The text names file and line.
    """
    file = Path(path).resolve()
    if source is None and not file.is_file():
        raise PluginError(f"{path}: there is no such file")
    _put_on_path(str(file.parent))
    name = f"_nylon_plugin_{next(_numbers)}_{file.stem}"
    if file.suffix != ".py":
        raise PluginError(f"{path}: a Python plugin is a .py file")
    loader = _FreshLoader(name, str(file))
    loader.source = source
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    assert spec is not None  # a loader was given
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise plugin_error(f"importing {path}", error) from None
    except SystemExit as error:
        del sys.modules[name]
        raise plugin_error(f"importing {path}", error) from None
    try:
        plugin = _attribute(module, attribute, path)
    except PluginError:
        del sys.modules[name]
        raise
    _private[plugin] = name
    return plugin


def unload(plugin: NylonPlugin) -> None:
    """Forgets the private module of a plugin that was loaded from a file; another plugin is left alone."""
    if name := _private.pop(plugin, None):
        sys.modules.pop(name, None)


def load_module(module: str, attribute: str = "plugin") -> NylonPlugin:
    """Loads a plugin from a module that can be imported; the working directory is on ``sys.path``.

    Raises:
        PluginError: as for :func:`load_file`.
    """
    _put_on_path(str(Path.cwd()))
    try:
        imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise plugin_error(f"importing module {module}", error) from None
    return _attribute(imported, attribute, imported.__file__ or module)


def plugin_error(what: str, error: BaseException, function: Callable[..., Any] | None = None) -> PluginError:
    """An exception of the plugin's code as a :class:`PluginError`: where in the author's files, and what."""
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}" + (f":{error.offset}" if error.offset else "")
        return PluginError(f"{place}: {type(error).__name__}: {error.msg}{_pointed_at(error)}")
    said = str(error)
    kind = type(error).__name__
    message = said if isinstance(error, NylonError) else f"{kind}: {said}" if said else kind
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_own, "<frozen importlib"))
    ]
    if not frames:
        code = getattr(function, "__code__", None)
        place = f"{code.co_filename}:{code.co_firstlineno}: " if code is not None else ""
        return PluginError(f"{place}{what} failed: {message}")
    last = frames[-1]
    line = linecache.getline(last.filename, last.lineno or 0).strip()
    shown = f"\n    {line}" if line else ""
    return PluginError(f"{last.filename}:{last.lineno}: {what} failed: {message}{shown}")


def _pointed_at(error: SyntaxError) -> str:
    """The line of a syntax error, with carets below what is wrong."""
    if not error.text:
        return ""
    line = error.text.rstrip().expandtabs(1)
    if not error.offset:
        return f"\n    {line}"
    start = error.offset - 1
    end = (error.end_offset or 0) - 1 if error.end_lineno == error.lineno else len(line)
    carets = "^" * max(1, min(end, len(line)) - start)
    return f"\n    {line}\n    {' ' * start}{carets}"


def _put_on_path(directory: str) -> None:
    if directory not in sys.path:
        sys.path.insert(0, directory)


def _attribute(module: ModuleType, attribute: str, shown: str) -> NylonPlugin:
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
        if found is None:
            plugins = [name for name, value in vars(module).items() if isinstance(value, NylonPlugin)]
            has = f"; it has {', '.join(plugins)}" if plugins else "; it has no plugin at all"
            raise PluginError(f"{shown}:1: there is no plugin called {attribute!r} in it{has}")
    if not isinstance(found, NylonPlugin):
        raise PluginError(f"{shown}:1: {attribute!r} is a {type(found).__name__}, not a NylonPlugin")
    return found
