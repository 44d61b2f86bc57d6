"""The table of tasks by robot."""

from shiftgym.envs.adroit import ADROIT
from shiftgym.envs.locomotion import LOCOMOTION
from shiftgym.envs.task import Task

TASKS: dict[str, Task] = LOCOMOTION | ADROIT
