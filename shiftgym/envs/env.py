"""The single environment: Gymnasium's MujocoEnv over a shifted model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.utils import EzPickle

from shiftgym.basics.arrays import Array
from shiftgym.basics.errors import ShiftgymError, nearest
from shiftgym.domains import Domain, asset_path
from shiftgym.drawing.rendering import (
    camera_config,
    check_camera,
    check_rendering,
    close_renderer,
    follow,
    render_with,
)
from shiftgym.engine import mujoco
from shiftgym.envs.changing import PARTS, Changing, write_model
from shiftgym.envs.parameters import is_target
from shiftgym.envs.start import SCENE, check_options, place, read_scene, scene_of
from shiftgym.envs.state import INTEGRATION, WORDS, check_state, pack_rng, seed_of, unpack_rng
from shiftgym.envs.task import Sims, check_action
from shiftgym.envs.tasks import TASKS
from shiftgym.making import from_kwargs
from shiftgym.modelling import build_model

COPIED = ("spec", "_np_random", "_np_random_seed", "observation_space", "action_space")


class ShiftEnv(MujocoEnv, EzPickle):
    """Run one robot under one shift.

    Args:
        robot: ``hopper``, ``walker2d``, ``halfcheetah``, ``ant``, ``pen`` or ``door``.
        shift: a shift's name (``kinematic``, ``friction-x0p37``), the JSON form of the user's own
            (see :meth:`shiftgym.Domain.kwargs`), or None for the unshifted robot.
        physics: ``mujoco210``, the physics of the published data, or ``installed``.
        render_mode: as in Gymnasium's MuJoCo environments; nothing touches OpenGL until the
            first picture.
        camera: overrides of the free camera: ``distance``, ``azimuth``, ``elevation``, ``lookat``.
        randomize: parameters that change, with the ranges that factors are drawn from:
            ``{"friction": (0.3, 3)}``; see :mod:`shiftgym.envs.parameters`.
        randomize_every: steps from one draw to the next; None for one draw per episode.
        observe_parameters: end observations with the values of ``randomize``.
        render_options: passed on to MujocoEnv: ``width``, ``height``, ``camera_name``, ...

    Observations are float64 as in the base environments. ``step`` raises ActionError on an action
    of the wrong shape or one that is not finite, before anything moves. Copies (``copy.deepcopy``,
    ``pickle``) carry the whole state: physics, goal, generators, spec.
    """

    metadata: dict[str, Any] = {
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"],
    }
    domain: Domain

    def __init__(
        self,
        robot: str,
        shift: str | Mapping[str, Any] | None = None,
        physics: str = "mujoco210",
        render_mode: str | None = None,
        camera: Mapping[str, Any] | None = None,
        randomize: Mapping[str, Any] | None = None,
        randomize_every: int | None = None,
        observe_parameters: bool = False,
        **render_options: Any,
    ):
        """Compile the domain's model; see the class for the arguments."""
        changes = (randomize, randomize_every, observe_parameters)
        EzPickle.__init__(
            self, robot, shift, physics, render_mode, camera, *changes, **render_options
        )
        check_rendering(camera, render_options)
        if render_mode not in (None, *self.metadata["render_modes"]):
            modes = self.metadata["render_modes"]
            raise ShiftgymError(
                f"Unknown render_mode {render_mode!r}. {nearest(str(render_mode), modes)}"
            )
        self._render_options = render_options
        self.domain = from_kwargs(robot, shift)
        self.physics = physics
        self.task = TASKS[robot]
        self.changing = Changing([self.domain], physics, *changes)
        self.metadata = {**type(self).metadata, "render_fps": self.task.fps}
        super().__init__(
            str(asset_path(robot)),
            self.task.frame_skip,
            observation_space=self.task.observation_space(self.changing.extra),
            render_mode=render_mode,
            default_camera_config=camera_config({**self.task.camera, **(camera or {})}),
            **render_options,
        )
        follow(self.mujoco_renderer, render_options)
        self.action_space = self.task.action_space(self.model)
        outputs = {name: getattr(self.data, name) for name in ("qpos", "qvel", *self.task.outputs)}
        own = {name: getattr(self.model, name) for name in self.task.own_model_fields}
        views = {name: array[None] for name, array in (outputs | own).items()}
        self.sims = Sims(self.model, self.task, views)
        self.changing.write = partial(write_model, self.task, self.sims)
        self._action_shape = (self.model.nu,)
        self._row = np.array([0])
        self._scene: dict[str, Array] = {}  # what the reset under way was asked to start from
        self._given: dict[str, Array] = {}  # and the parameters that it was given
        self._reseeded = False  # and whether it was given a seed
        self._age = 0  # steps of this episode
        self._ctrl = self.data.ctrl

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = build_model(self.domain, self.physics)
        check_camera(model, self._render_options)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, mujoco.MjData(model)

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Advance one environment step of ``frame_skip`` physics steps."""
        task, sims = self.task, self.sims
        batch = check_action(action, self._action_shape)[None]
        self._ctrl[:] = task.control(sims, batch)
        mujoco.mj_step(self.model, self.data, self.frame_skip)
        rewards, infos = task.reward(sims, batch)
        terminated = task.terminated(sims).item()
        task.remember(sims, None)
        info = {name: value.item() for name, value in infos.items()}
        if self.changing.active:
            info |= self.changing.in_force(0)
            self._age += 1
            self.changing.after_step(0, self._age)
        observation = self.observe()
        if self.render_mode == "human":
            self.render()
        return observation, rewards.item(), terminated, False, info

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:  # type: ignore[override]
        """Start an episode.

        Args:
            seed: seeds the generator; None goes on with it.
            options: ``initial_state_dict`` is the scene to start from, as in gymnasium-robotics;
                see :mod:`shiftgym.envs.start` and :meth:`get_env_state`. Any of
                :attr:`parameters`, such as ``friction``, is a factor that holds for this episode.

        Returns:
            The first observation, and the parameters that are not the domain's own.

        Raises:
            ShiftgymError: an unknown option, or one that does not fit; nothing has been reset.
        """
        given = check_options(options, (SCENE, *self.changing.names), is_target)
        scene = {SCENE: given.pop(SCENE)} if SCENE in given else {}
        self._scene = read_scene(self.task, self.model, scene[SCENE]) if scene else {}
        self._given, self._reseeded = self.changing.read(given, [0]), seed is not None
        return super().reset(seed=seed)

    def _get_reset_info(self) -> dict[str, Any]:
        return self.changing.in_force(0)

    def reset_model(self) -> Array:
        """Draw an initial state, or take the scene asked for, and give its observation."""
        if self._reseeded or not self.changing.seeded(0):
            self.changing.seed(0, seed_of(self.np_random_seed, self.np_random))
        if self.changing.active or self._given:
            self.changing.begin(0, self._given)
            mujoco.mj_resetData(self.model, self.data)  # to the defaults of this model
        self._age = 0
        self.task.reset(self.sims, 0, self.np_random)
        self._place(self._scene)
        return self.observe()

    def observe(self) -> Array:
        """Give the observation of the current state."""
        return self.changing.append(self.task.observe(self.sims))[0]

    @property
    def parameters(self) -> dict[str, float]:
        """Give the parameters in force that are not the domain's own, by name."""
        return self.changing.in_force(0)

    def set_parameters(self, values: Mapping[str, float]) -> None:
        """Change parameters from the next step on; what is given holds to the episode's end.

        Raises:
            ShiftgymError: unknown names, or wrong numbers; nothing has changed.
        """
        self.changing.change(0, self.changing.read(values, [0]))

    def set_state(self, qpos: Any, qvel: Array | None = None, **scene: Array) -> None:
        """Put the robot somewhere: a whole state, a scene, or positions and velocities.

        Args:
            qpos: a whole state from :meth:`get_state`, after which every step repeats the original
                bit for bit; or a scene from :meth:`get_env_state`; or positions (nq,).
            qvel: velocities (nv,), with positions only.
            scene: ``desired_orien`` (4,) of the pen's target, ``door_body_pos`` (3,) of the door;
                without them both stay where they are, as in gymnasium-robotics.

        Raises:
            ShiftgymError: names or shapes that do not fit, or numbers that are not finite.
        """
        if isinstance(qpos, Mapping):
            if "integration" not in qpos:
                self._place(read_scene(self.task, self.model, qpos))
                return
            like = {**self._physics(), "rng": np.zeros(WORDS, np.uint64)}
            like |= self._changes(self.changing.like(qpos))
            saved = check_state(qpos, like, "another robot")
            self._set_changes(saved)
            self._set_physics(saved)
            self.np_random = unpack_rng(saved["rng"])
            return
        given = {"qpos": qpos, "qvel": qvel, **scene}
        self._place(read_scene(self.task, self.model, given, whole=False))

    def get_state(self) -> dict[str, Array]:
        """Give everything the future depends on, as arrays: physics, goal, generator."""
        changes = self._changes(self.changing.save())
        return {**self._physics(), **changes, "rng": pack_rng(self.np_random)}

    def get_env_state(self) -> dict[str, Array]:
        """Give the scene, as gymnasium-robotics does: ``qpos``, ``qvel`` and where the goal is."""
        return scene_of(self.task, self.sims, 0)

    def set_env_state(self, scene: Mapping[str, Array]) -> None:
        """Put everything where a scene from :meth:`get_env_state` says; see :meth:`set_state`."""
        self._place(read_scene(self.task, self.model, scene))

    def _place(self, scene: Mapping[str, Array]) -> None:
        place(self.task, self.sims, 0, scene)
        mujoco.mj_forward(self.model, self.data)
        self.task.remember(self.sims, self._row)

    def _changes(self, saved: dict[str, Array]) -> dict[str, Array]:
        """Give what there is of parameters as a state has it: without the axis of one row."""
        own = {name: value[0] for name, value in saved.items()}
        return own | {"age": np.array(self._age)} if own else {}

    def _set_changes(self, saved: Mapping[str, Array]) -> None:
        names = [name for name in PARTS if name in saved]
        self.changing.restore({name: saved[name][None] for name in names})
        self._age = int(saved.get("age", np.array(0)))

    def _physics(self) -> dict[str, Array]:
        integration = np.empty(mujoco.mj_stateSize(self.model, INTEGRATION))
        mujoco.mj_getState(self.model, self.data, integration, INTEGRATION)
        own = {name: getattr(self.model, name).copy() for name in self.task.own_model_fields}
        memory = {name: value[0].copy() for name, value in self.sims.memory.items()}
        return {"integration": integration, **own, **memory}

    def _set_physics(self, saved: Mapping[str, Array]) -> None:
        for name in self.task.own_model_fields:
            getattr(self.model, name)[:] = saved[name]
        mujoco.mj_setState(self.model, self.data, saved["integration"], INTEGRATION)
        mujoco.mj_forward(self.model, self.data)  # current derived fields, for observe()
        mujoco.mj_setState(self.model, self.data, saved["integration"], INTEGRATION)
        for name, value in self.sims.memory.items():
            value[0] = saved[name]

    def __getstate__(self) -> dict[str, Any]:
        """Give what a copy is made from: arguments, physics, generators, spec."""
        copied = {name: getattr(self, name) for name in COPIED}
        lagging = {name: getattr(self.data, name).copy() for name in self.task.outputs}
        physics = {**self._physics(), **self._changes(self.changing.save())}
        return {**super().__getstate__(), "copied": copied, "physics": physics, "data": lagging}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        """Become a copy."""
        super().__setstate__(saved)
        self._set_changes(saved["physics"])
        self._set_physics(saved["physics"])
        for name, value in saved["data"].items():
            getattr(self.data, name)[:] = value
        for name, value in saved["copied"].items():
            setattr(self, name, value)

    def render(self):
        """Make a picture as ``render_mode`` says.

        Raises:
            RenderError: no render mode was chosen, or no OpenGL works here; the message says what
                to pass, set or install.
        """
        return render_with(self.mujoco_renderer, self.render_mode)

    def close(self) -> None:
        """Free the OpenGL contexts; a picture taken later makes new ones."""
        close_renderer(self.mujoco_renderer)
