"""The vector environment: ``mujoco.batch`` steps every sub-environment on C++ threads.

``gymnasium.make_vec`` picks it up by itself. Sub-environments may be different domains of one
robot; N seeds give bit for bit the trajectories of N single environments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from shiftgym.basics.arrays import Array
from shiftgym.basics.errors import DomainError, ShiftgymError
from shiftgym.domains import Domain
from shiftgym.drawing.rendering import Picture, check_camera, check_rendering
from shiftgym.engine import mujoco
from shiftgym.envs import forks, sub
from shiftgym.envs.batching import differing, infos_of
from shiftgym.envs.changing import Changing, write_batch
from shiftgym.envs.parameters import is_target
from shiftgym.envs.start import SCENE, check_options, place, read_scene
from shiftgym.envs.task import Sims, check_action
from shiftgym.envs.tasks import TASKS
from shiftgym.envs.vector_options import autoreset_mode as autoreset
from shiftgym.envs.vector_options import episode_limit, reset_mask
from shiftgym.envs.vector_state import Kept
from shiftgym.making import from_kwargs
from shiftgym.modelling import build_model

FEW = 6  # rows that one thread restarts sooner than several
RENDER_MODES = ["rgb_array", "depth_array", "rgbd_tuple"]
Shift = str | Mapping[str, Any] | None


class ShiftVectorEnv(sub.Asked, Kept, VectorEnv[Array, Array, Array]):
    """Run N sub-environments of one robot in lockstep.

    Args:
        robot: the robot's name.
        shift: one shift for all sub-environments, or a list of N; see
            :class:`shiftgym.envs.env.ShiftEnv`.
        num_envs: N.
        max_episode_steps: steps after which an episode is truncated; as in ``gymnasium.make``,
            None for the robot's own limit and -1 for never.
        autoreset_mode: ``next_step`` (Gymnasium's default), ``same_step`` or ``disabled``.
        physics: ``mujoco210`` or ``installed``.
        num_threads: threads that step; 0 for one per CPU.
        render_mode: ``rgb_array``, ``depth_array``, ``rgbd_tuple`` or None.
        camera: overrides of the free camera.
        randomize: ranges of parameters that change, each sub-environment with draws of its own.
        randomize_every: steps from one draw to the next; None for one draw per episode.
        observe_parameters: end observations with the values of ``randomize``.
        disable_env_checker: accepted as in ``gymnasium.make``; there is no checker to disable.
        render_options: ``width``, ``height``, ``camera_name``, ...

    Copies (``copy.deepcopy``, ``pickle``) carry the whole state and start threads of their own.

    Attributes:
        domains: the domain of each sub-environment.
        max_episode_steps: the limit; None for none.
    """

    def __init__(
        self,
        robot: str,
        shift: Shift | Sequence[Shift] = None,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        physics: str = "mujoco210",
        num_threads: int = 0,
        render_mode: str | None = None,
        camera: Mapping[str, Any] | None = None,
        disable_env_checker: bool | None = None,
        randomize: Mapping[str, Any] | None = None,
        randomize_every: int | None = None,
        observe_parameters: bool = False,
        **render_options: Any,
    ):
        """Compile the models and start the threads; see the class for the arguments."""
        self.closed = True  # so that one that fails below is not closed when it is freed
        shifts = [shift] * num_envs if isinstance(shift, str | Mapping | None) else list(shift)
        if len(shifts) != num_envs or not shifts:
            raise DomainError(f"{len(shifts)} shifts for num_envs={num_envs}: give one for each.")
        self._arguments = {
            "robot": robot, "shift": shifts, "num_envs": num_envs, "physics": physics,
            "max_episode_steps": max_episode_steps, "autoreset_mode": autoreset_mode,
            "num_threads": num_threads, "render_mode": render_mode, "camera": camera,
            "randomize": randomize, "randomize_every": randomize_every,
            "observe_parameters": observe_parameters, **render_options,
        }  # fmt: skip
        self.num_envs = num_envs
        self.domains: list[Domain] = [from_kwargs(robot, entry) for entry in shifts]
        self.task = TASKS[robot]
        self.physics = physics
        self.max_episode_steps = episode_limit(max_episode_steps, robot)
        self.autoreset_mode = autoreset(autoreset_mode)
        self.render_mode = render_mode
        self.metadata = {
            "render_modes": RENDER_MODES,
            "render_fps": self.task.fps,
            "autoreset_mode": self.autoreset_mode,
        }
        if render_mode not in (None, *RENDER_MODES):
            raise ShiftgymError(
                f"A vector environment renders {', '.join(RENDER_MODES)}, not {render_mode!r}. "
                "Make a single environment to watch it live."
            )
        check_rendering(camera, render_options)
        self._render_options = {"camera": {**self.task.camera, **(camera or {})}, **render_options}
        self._picture: Picture | None = None

        changes = (randomize, randomize_every, observe_parameters)
        self.changing = Changing(self.domains, physics, *changes)
        models = {entry: build_model(entry, physics) for entry in dict.fromkeys(self.domains)}
        model = models[self.domains[0]]
        check_camera(model, render_options)
        if model.ntree == 1:  # one tree makes one island: the same numbers, 5 to 8 % sooner
            for each in models.values():
                each.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
        self._batch = mujoco.batch.Batch(model, num_envs, min(num_threads, num_envs))
        forks.guard(self)
        for name, values in differing([models[entry] for entry in self.domains]).items():
            expanded = self._batch.expand(name)
            for row, value in enumerate(values):  # bvh_aabb expands to its leading rows only
                expanded[row] = value[: expanded.shape[1]] if expanded.ndim > 1 else value
        outputs = ("qpos", "qvel", *self.task.outputs)
        fields = {name: self._batch.bind(name) for name in outputs}
        fields |= {name: self._batch.expand(name) for name in self.task.own_model_fields}
        self.sims = Sims(model, self.task, fields)
        self.sims.qpos0 = np.stack([models[entry].qpos0 for entry in self.domains])
        self.changing.write = partial(write_batch, self._batch, self.task, self.sims)
        self._ctrl = self._batch.bind("ctrl")
        self._batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE)
        self._blank = self._batch.state.copy()  # what mj_resetData leaves, for every restart

        self.single_observation_space = self.task.observation_space(self.changing.extra)
        self.single_action_space = self.task.action_space(model)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._action_shape = (num_envs, model.nu)
        self._rngs: list[np.random.Generator | None] = [None] * num_envs
        self._seeds: list[int] = [-1] * num_envs
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._ended = np.zeros(num_envs, dtype=bool)
        self._started = False
        self.closed = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Start new episodes in all sub-environments, or where ``options["reset_mask"]`` says.

        Args:
            seed: one number (sub-environment i gets ``seed + i``), a list of N, or None.
            options: ``reset_mask``, a bool array (N,), leaves the other episodes running;
                ``initial_state_dict`` is the scene to start from (see
                :mod:`shiftgym.envs.start`), one for all or with N rows. Any of
                :attr:`parameters`, such as ``friction``, is a factor, or N of them, for the
                episodes that start.

        Returns:
            All observations (N, observation_size), and the parameters of started episodes that
            are not the domain's own.

        Raises:
            ShiftgymError: an unknown option, or one that does not fit; nothing has been reset.
        """
        if isinstance(seed, int | np.integer):
            seed = [int(seed) + row for row in range(self.num_envs)]
        if seed is not None and len(seed) != self.num_envs:
            raise ShiftgymError(f"{len(seed)} seeds for {self.num_envs} sub-environments.")
        given = check_options(options, ("reset_mask", SCENE, *self.changing.names), is_target)
        rows = np.flatnonzero(reset_mask(given.get("reset_mask"), self.num_envs))
        scene = {}
        if SCENE in given:
            scene = read_scene(self.task, self.sims.model, given[SCENE], self.num_envs)
        own = {name: v for name, v in given.items() if name not in ("reset_mask", SCENE)}
        parameters = self.changing.read(own, rows)
        if not self._started and len(rows) < self.num_envs:
            raise ShiftgymError("The first reset starts every sub-environment: omit reset_mask.")
        self._started = True
        for row in rows.tolist():
            wanted = None if seed is None else seed[row]
            if wanted is not None or self._rngs[row] is None:
                self._rngs[row], self._seeds[row] = seeding.np_random(wanted)
                self.changing.seed(row, self._seeds[row])
        self._restart(rows, scene, parameters)
        started = np.isin(np.arange(self.num_envs), rows)
        return self.observe(), self.changing.infos(self.changing.values, started)

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Advance every sub-environment by one step, resetting ended ones as the mode says.

        Raises:
            ActionError: wrong shape, or not finite; nothing has been stepped.
            ShiftgymError: before the first reset; in mode ``disabled``, when an episode is over.
        """
        actions = check_action(actions, self._action_shape)
        if not self._started:
            raise ShiftgymError("Call reset() before the first step().")
        over = np.flatnonzero(self._ended)
        if not len(over):
            return self._advance(actions)
        if self.autoreset_mode is AutoresetMode.DISABLED:
            raise ShiftgymError(
                f"The episodes of sub-environments {over.tolist()} are over: call "
                'reset(options={"reset_mask": ended}), or choose another autoreset_mode.'
            )
        return self._advance_and_restart(actions, over)

    def _advance(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Step all sub-environments, none of which is to be reset first."""
        self._ctrl[:] = self.task.control(self.sims, actions)
        self._batch.step(nstep=self.task.frame_skip)
        rewards, details = self.task.reward(self.sims, actions)
        terminated = self.task.terminated(self.sims)
        self.task.remember(self.sims, None)
        self._elapsed += 1
        truncated = self._truncated()
        everyone = np.ones(self.num_envs, dtype=bool)
        told = self._after_step(everyone)
        observations = self.observe()
        ended = terminated | truncated
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._ended = ended
        elif ended.any():
            infos = self._restart_at_once(observations, details, told, ended)
            return observations, rewards, terminated, truncated, infos
        infos = infos_of(details, everyone) | self.changing.infos(told, everyone)
        return observations, rewards, terminated, truncated, infos

    def _restart_at_once(
        self, observations: Array, details: dict[str, Array], told: Array, ended: Array
    ) -> dict[str, Any]:
        """Start new episodes where one ended, in mode ``same_step``; give the infos."""
        rows = np.flatnonzero(ended)
        final = np.full(self.num_envs, None, dtype=object)
        for row in rows:
            final[row] = observations[row].copy()
        self._restart(rows)
        observations[rows] = self.observe()[rows]
        infos = infos_of(details, ~ended) if not ended.all() else {}
        infos |= {"final_obs": final, "_final_obs": ended.copy()}
        last = infos_of(details, ended) | self.changing.infos(told, ended)
        now = np.where(ended[:, None], self.changing.values, told)  # a new episode tells its own
        infos |= self.changing.infos(now, np.ones_like(ended))
        return infos | {"final_info": last, "_final_info": ended.copy()}

    def _advance_and_restart(
        self, actions: Array, over: Array
    ) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Reset the sub-environments that ended at the last step, and step the others."""
        going = ~self._ended
        rows = np.flatnonzero(going)
        rewards = np.zeros(self.num_envs)
        infos: dict[str, Any] = {}
        self._restart(over)
        told = self.changing.values
        if len(rows):
            self._ctrl[rows] = self.task.control(self.sims, actions)[rows]
            self._batch.step(ids=rows, nstep=self.task.frame_skip)
            all_rewards, details = self.task.reward(self.sims, actions)
            rewards[rows] = all_rewards[rows]
            self.task.remember(self.sims, None)
            self._elapsed[rows] += 1
            infos = infos_of(details, going)
            told = self._after_step(going)
        infos |= self.changing.infos(told, np.ones_like(going))
        terminated = self.task.terminated(self.sims) & going
        truncated = self._truncated() & going
        self._ended = terminated | truncated
        return self.observe(), rewards, terminated, truncated, infos

    def _after_step(self, stepped: Array) -> Array:
        """Draw parameters anew where it is time to; give those that the step was made with."""
        told = self.changing.told()
        if self.changing.every:
            for row in np.flatnonzero(stepped).tolist():
                self.changing.after_step(row, int(self._elapsed[row]))
        return told

    def _truncated(self) -> Array:
        if self.max_episode_steps is None:
            return np.zeros(self.num_envs, dtype=bool)
        return self._elapsed >= self.max_episode_steps

    def _restart(
        self,
        rows: Array,
        scene: Mapping[str, Array] | None = None,
        parameters: Mapping[str, Array] | None = None,
    ) -> None:
        """Start new episodes in some rows, from a scene and with parameters (N rows) if given."""
        self._batch.state[rows] = self._blank[rows]
        if self.changing.active or parameters:
            for row in rows.tolist():
                self.changing.begin(row, parameters or {})
            self.sims.qpos[rows] = self.sims.qpos0[rows]
        for row in rows.tolist():
            rng = self._rngs[row]
            assert rng is not None
            self.task.reset(self.sims, row, rng)
            if scene:
                place(self.task, self.sims, row, {name: v[row] for name, v in scene.items()})
        # One row runs in this thread; waking the others costs more than a few rows take.
        for some in rows[:, None] if len(rows) <= FEW else [rows]:
            self._batch.forward(ids=some)
        self.task.remember(self.sims, rows)
        self._elapsed[rows] = 0
        self._ended[rows] = False

    def observe(self) -> Array:
        """Give the observations of the current states, (N, observation_size)."""
        return self.changing.append(self.task.observe(self.sims))

    @property
    def parameters(self) -> dict[str, Array]:
        """Give the parameters in force, each (N,); NaN where a model is its domain's own."""
        pairs = zip(self.changing.names, self.changing.values.T, strict=True)
        return {name: values.copy() for name, values in pairs if not np.isnan(values).all()}

    def set_parameters(self, values: Mapping[str, Any]) -> None:
        """Change parameters from the next step on; what is given holds to the episodes' ends.

        Args:
            values: factors by name, each one number or N of them.

        Raises:
            ShiftgymError: unknown names, or wrong numbers; nothing has changed.
        """
        given = self.changing.read(values, range(self.num_envs))
        for row in range(self.num_envs):
            self.changing.change(row, given)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """Give each sub-environment's seed; -1 before the first reset."""
        return tuple(self._seeds)

    @property
    def np_random(self) -> tuple[np.random.Generator | None, ...]:  # type: ignore[override]
        """Give each sub-environment's generator; None before the first reset."""
        return tuple(self._rngs)

    def copy_of(self, row: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Give one sub-environment's model and data, as copies."""
        model = self._batch.get_model(row)
        data = mujoco.MjData(model)
        self._batch.get_data(row, data)
        return model, data

    def render(self, ids: int | Sequence[int] | None = None) -> Any:
        """Make pictures of sub-environments.

        Args:
            ids: one sub-environment (gives one picture), several, or None for all (a tuple).

        Raises:
            RenderError: no OpenGL here; the message says what to set or install.
        """
        if self.render_mode is None:
            raise ShiftgymError('Make the environment with render_mode="rgb_array" to render it.')
        if isinstance(ids, int | np.integer):
            return self._render_one(int(ids))
        return tuple(
            self._render_one(row) for row in (range(self.num_envs) if ids is None else ids)
        )

    def _render_one(self, row: int) -> Any:
        picture = self._picture
        if picture is None:
            model = self._batch.get_model(row)
            picture = self._picture = Picture(model, **self._render_options)
        self._batch.get_model(row, picture.model)
        self._batch.get_data(row, picture.data)
        return picture.render(self.render_mode)

    def close_extras(self, **kwargs: Any) -> None:
        """Free the renderer; the threads end with the environment."""
        if self._picture is not None:
            self._picture.close()
            self._picture = None
