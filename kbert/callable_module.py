"""Modules that can be called, where a public function of kbert has the name of one.

`kbert.train` is the package of the training loop and `kbert.encode` a command; Python binds such a name to the module as soon
as anything imports it. Called, these modules are the functions of `kbert.api`.
"""

import sys
import types
from typing import Any


class CallableModule(types.ModuleType):
    """A module that is also the function of `kbert.api` with its name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from importlib import import_module

        return getattr(import_module("kbert.api"), self.__name__.rpartition(".")[2])(*args, **kwargs)


def make_callable(name: str) -> None:
    """Make a module of `sys.modules` callable."""
    sys.modules[name].__class__ = CallableModule
