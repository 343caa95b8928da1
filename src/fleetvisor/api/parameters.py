"""The names of parameters, checked against what each operation declares: a misspelt one must not mean "absent".

An operation of ours refuses every name that it does not know, also a known one in the wrong place: those of a POST
stand in its form, all others in the query. It refuses an empty value, too: a variable of a script that was never set
must not mean "for ever" or "all". The original's operations ignore such names, as published; they refuse
only what differs from one of our parameters by case or one letter. Pure. Spec: ``docs/divergences.md``.
"""

from collections.abc import Collection, Iterable
from typing import Final

from fleetvisor.api.routes import Param, Route
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.names import is_near, nearest
from fleetvisor.web.requests import Fields

PAGING: Final = ("PageSize", "Page", "PageToken")
_SHOWN_MAX: Final = 40


def in_form(route: Route) -> bool:
    """Return whether an operation's parameters stand in its form; else they stand in the query."""
    return route.method == "POST" and route.media is None


def check_names(route: Route, query: Fields, form: Fields) -> None:
    """Raise ``Invalid`` for a parameter that the operation does not take there, with the nearest one that it takes.

    Likewise for an empty value of one that may not be empty.
    """
    declared = tuple(param.name for param in route.params)
    pages = PAGING if route.list_key else ()
    known = {True: declared if in_form(route) else (), False: pages + (() if in_form(route) else declared)}
    for fields, is_form in ((query, False), (form, True)):
        for name in fields:
            if name not in known[is_form]:
                _judge(route, name, (*known[False], *known[True]), of_form=is_form)
    if route.extension:
        _refuse_empty(route.params, form if in_form(route) else query)


def refuse_near(name: str, params: Iterable[Param]) -> None:
    """Raise ``Invalid`` for a name that differs from one of these by case or one letter."""
    for param in params:
        if is_near(name, param.name):
            raise Invalid(_unknown(name, (param.name,)))


def _refuse_empty(params: Iterable[Param], fields: Fields) -> None:
    for param in params:
        if not param.blank and not all(fields.get(param.name, ("given",))):
            way_out = "" if param.required else f", or leave {param.name} out"
            raise Invalid(f"{param.name} is empty: send a value{way_out}.")


def _judge(route: Route, name: str, known: Collection[str], *, of_form: bool) -> None:
    if not route.extension:
        refuse_near(name, (param for param in route.params if param.extension))
    elif name in known:
        here, there = ("form", "query") if of_form else ("query", "form")
        raise Invalid(f"{name} stands in the {here}; send it in the {there}.")
    else:
        raise Invalid(_unknown(name, known))


def _unknown(name: str, known: Collection[str]) -> str:
    shown = name if len(name) <= _SHOWN_MAX else name[:_SHOWN_MAX] + "…"
    if not known:
        return f"There is no parameter {shown!a} here; this operation takes none."
    return f"There is no parameter {shown!a} here; the nearest is {nearest(name, known)}. Names are case-sensitive."
