"""A search space's file as a module whose imports find the files beside it, and nobody else's imports do."""

import ast
import builtins
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import decode_source, find_spec, module_from_spec, spec_from_file_location
from itertools import count, groupby
from pathlib import Path
from types import ModuleType
from typing import Any

_PREFIX = "_ossnet_space_"
_numbers = count()


class SpaceModule:
    """A Python file that was executed, with the modules that it imports from its own folder.

    The folder is a package of a unique name: its modules are never mistaken for others of the same name, and
    `sys.path` stays as it is. In an import of one of its files, a file or package beside it comes first, even
    where an installed module has that name. A folder without `__init__.py` comes last.

    Raises:
        Exception: whatever the file raises.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts: dict[Path, str] = {}
        """The texts of the files of the folder that were executed."""
        self._package = f"{_PREFIX}{next(_numbers)}"
        self._own_name = f"{self._package}.{path.stem.replace('.', '_')}"
        _install_finder()
        package = ModuleType(self._package)
        package.__path__ = [str(path.parent)]
        sys.modules[self._package] = package
        _folders[self._package] = self
        try:
            self.module = self._execute()
        except BaseException:
            self._forget()
            raise

    def helpers(self) -> dict[str, str]:
        """The texts of the files beside it that were imported so far, by their paths in the folder."""
        folder = self.path.parent
        others = sorted(self.texts.keys() - {self.path})
        return {file.relative_to(folder).as_posix(): self.texts[file] for file in others}

    def import_hook(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - as Python calls it
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        """Import a module for a file of this folder, as Python's own `__import__` does."""
        top = name.partition(".")[0]
        if level == 0 and self._is_beside(top, importer=str((globals or {}).get("__name__"))):
            local = f"{self._package}.{name}"
            if fromlist:
                return builtins.__import__(local, globals, locals, fromlist, 0)
            import_module(local)
            return sys.modules[f"{self._package}.{top}"]
        return builtins.__import__(name, globals, locals, fromlist, level)

    def _execute(self) -> ModuleType:
        loader = _Loader(self._own_name, str(self.path), self)
        spec = spec_from_file_location(self._own_name, self.path, loader=loader)
        assert spec is not None  # as it has a loader
        module = module_from_spec(spec)
        sys.modules[self._own_name] = module
        loader.exec_module(module)
        return module

    def _is_beside(self, top: str, *, importer: str) -> bool:
        """Whether a module is one of this folder, for a file that imports it.

        ossnet never is; nor is what a file of the same name imports, as when `random.py` imports random.
        """
        file, package = self.path.parent / f"{top}.py", self.path.parent / top
        is_package = (package / "__init__.py").is_file()
        if top == __name__.partition(".")[0] or (f"{self._package}.{top}" == importer and not is_package):
            return False
        if is_package or (file.is_file() and file != self.path):
            return True
        return (file == self.path or package.is_dir()) and not _is_installed(top)

    def _forget(self) -> None:
        del _folders[self._package]
        for name in [each for each in sys.modules if f"{each}.".startswith(f"{self._package}.")]:
            del sys.modules[name]


class _Loader(SourceFileLoader):
    """Loads a file of a space's folder: always its text, and nothing is written beside it."""

    def __init__(self, name: str, path: str, space: SpaceModule) -> None:
        super().__init__(name, path)
        self._space = space

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._space.import_hook}
        return module

    def get_data(self, path: str) -> bytes:
        data = super().get_data(path)
        self._space.texts[Path(path)] = decode_source(data)
        return data

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError("bytecode is neither read nor written")


class _Finder:
    """Finds the modules of the folders of spaces."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module in a space's folder; None for all others."""
        space = _folders.get(name.partition(".")[0])
        spec = None if space is None else PathFinder.find_spec(name, path, target)
        if space is not None and spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path, space)
        return spec


_folders: dict[str, SpaceModule] = {}


def reason(error: BaseException) -> str:
    """What went wrong in a space's file, in one line."""
    text = re.sub(rf"{_PREFIX}\d+\.?", "", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def same_code(before: str, now: str) -> bool:
    """Whether two texts are one program but for comments, docstrings, format and the order of imports."""
    if before == now:
        return True
    try:
        return _normalized(before) == _normalized(now)
    except (SyntaxError, ValueError):
        return False


def _normalized(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, list(_ordered(_without_docstring(block))))
    return ast.dump(tree)


def _without_docstring(block: list[Any]) -> list[Any]:
    """A block without strings that stand alone."""
    return [
        each
        for each in block
        if not (
            isinstance(each, ast.Expr)
            and isinstance(each.value, ast.Constant)
            and isinstance(each.value.value, str)
        )
    ]


def _ordered(block: list[Any]) -> Iterator[ast.AST]:
    """A block with every run of imports in the order of their names, one name each."""
    for imports, run in groupby(block, lambda each: isinstance(each, ast.Import | ast.ImportFrom)):
        if imports:
            yield from sorted((part for each in run for part in _split(each)), key=ast.dump)
        else:
            yield from run


def _split(node: ast.Import | ast.ImportFrom) -> Iterator[ast.AST]:
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield ast.Import(names=[alias])
        else:
            yield ast.ImportFrom(module=node.module, names=[alias], level=node.level)


def _install_finder() -> None:
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def _is_installed(top: str) -> bool:
    """Whether an import finds a module elsewhere; mere folders on the path do not count."""
    try:
        spec = find_spec(top)
    except ValueError:  # it is loaded, but nobody knows from where
        return True
    return spec is not None and spec.origin is not None
