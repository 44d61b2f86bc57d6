"""List the methods: adding one is a file and a row here."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from shiftgym.basics.errors import DomainError, nearest
from shiftgym.domains import Domain
from shiftgym.making import domain
from shiftgym_agents.methods.outside import described, from_file, from_package, in_file, offered

if TYPE_CHECKING:  # what lists methods needs no torch
    from shiftgym_agents.core.agent import Agent, Config
    from shiftgym_agents.data.places import Place

METHODS = {  # name -> (module and class, what it is in one line); .files are of this folder
    "iql": (".iql:IQL", "implicit Q-learning on source and target data"),
    "iql-target": (".iql:TargetIQL", "implicit Q-learning on target data alone"),
    "bc": (".bc:BC", "imitation of the target data alone"),
    "sql": (".sql:SQL", "sparse Q-learning on source and target data"),
    "otdf": (".otdf:OTDF", "IQL on source rows close to the target by transport"),
    "igdf": (".igdf:IGDF", "IQL on source rows of high contrastive score"),
    "dvdf-igdf": (".dvdf:DVDF", "IGDF that also asks how good a source row is"),
    "dvdf-otdf": (".dvdf:DVDFOTDF", "OTDF that also asks how good a row is"),
    "v2a": (".v2a:V2A", "DVDF whose values know which dynamics a trajectory is of"),
    "droco": (".droco:DROCO", "IQL with robust bootstraps of source rows"),
    "tabb": (".tabb:TABB", "latent IQL on source rows answered as the target would"),
    "stc": (".stc:STC", "IQL on source rows with actions and rewards of the target"),
    "lodada": (".lodada:LoDADA", "IQL on clusters of source rows that resemble the target"),
    "dara": (".dara:DARA", "IQL on source rewards raised where dynamics agree"),
    "srpo": (".srpo:SRPO", "IQL paid for states that good policies share"),
    "td3bc": (".td3bc:TD3BC", "TD3 that imitates source and target data"),
    "bosa": (".bosa:BOSA", "TD3 within the support of actions and of dynamics"),
    "mobody": (".mobody:MOBODY", "TD3+BC on data and on a target model's answers"),
    "cql": (".cql:CQL", "conservative Q-learning on source and target data"),
    "vouch": (".vouch:VOUCH", "IQL on source rows that the target's own data vouch for"),
}


def method(name: str) -> type[Agent]:
    """Find a method's class by name: ours, `my_file.py:MyMethod`, or one that a package offers.

    Raises:
        DomainError: No method is called so; the message names the nearest.
        ShiftgymError: A file or package that cannot be loaded.
    """
    if in_file(name):
        return from_file(name)
    if name not in METHODS:
        if name in (others := offered()):
            return from_package(name)
        raise DomainError(
            f"Unknown method {name!r}. {nearest(name, [*METHODS, *others])} One of your own: "
            "my_file.py:MyMethod."
        )
    module, _, attribute = METHODS[name][0].partition(":")
    return getattr(import_module(module, __package__), attribute)


def is_method(name: str) -> bool:
    """Say whether a name is of a method that can be looked up; a file may still be missing."""
    return name in METHODS or in_file(name) or name in offered()


def summary(name: str) -> str:
    """Say in one line, without a full stop, what a method is."""
    if name in METHODS:
        return METHODS[name][1]
    return (method(name).__doc__ or name).strip().splitlines()[0].rstrip(".")


def recorded(name: str) -> dict[str, Any]:
    """Give what a run directory keeps of a method; one from outside has an origin."""
    return {"method": name} if name in METHODS else described(name)


def settings(name: str, where: str | Place, preset: str = "ours", **values: Any) -> Config:
    """Give a method's hyperparameters for a target: a preset's, its robot's own, then `values`.

    The command line starts from these, and so should Python.

    Args:
        name: A method.
        where: The target's domain; None, or a place that is no domain of shiftgym's, for the values
            of no robot in particular.
        preset: ours, paper or official.
        values: Hyperparameters of your own: `steps=30_000`.

    Raises:
        DomainError: No such method, preset, domain or hyperparameter.
        ShiftgymError: A number outside its range.
    """
    chosen = method(name)
    if preset not in chosen.presets:
        raise DomainError(f"{name} has no preset {preset!r}. {nearest(preset, chosen.presets)}")
    found: Config = chosen.presets[preset]
    if isinstance(where, str | Domain):
        found = found.for_robot(domain(where).robot)
    for key in values:
        if key not in vars(found):
            raise DomainError(f"{name} has no hyperparameter {key!r}. {nearest(key, vars(found))}")
    return replace(found, **values)
