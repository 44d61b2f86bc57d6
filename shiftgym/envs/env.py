"""The single environment: Gymnasium's MujocoEnv over a shifted model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.utils import EzPickle

from shiftgym.domains import Domain, asset_path, from_kwargs
from shiftgym.engine import mujoco
from shiftgym.envs.state import INTEGRATION, pack_rng, unpack_rng
from shiftgym.envs.task import Array, Sims, check_action
from shiftgym.envs.tasks import TASKS
from shiftgym.modelling import build_model
from shiftgym.rendering import camera_config, follow, render_with


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
        render_options: passed on to MujocoEnv: ``width``, ``height``, ``camera_name``, ...

    Observations are float64 as in the base environments. ``step`` raises ActionError on an action
    of the wrong shape or one that is not finite, before anything moves.
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
        **render_options: Any,
    ):
        """Compile the domain's model; see the class for the arguments."""
        EzPickle.__init__(self, robot, shift, physics, render_mode, camera, **render_options)
        self.domain = from_kwargs(robot, shift)
        self.physics = physics
        self.task = TASKS[robot]
        self.metadata = {**type(self).metadata, "render_fps": self.task.fps}
        super().__init__(
            str(asset_path(robot)),
            self.task.frame_skip,
            observation_space=self.task.observation_space(),
            render_mode=render_mode,
            default_camera_config=camera_config({**self.task.camera, **(camera or {})}),
            **render_options,
        )
        follow(self.mujoco_renderer)
        self.action_space = self.task.action_space(self.model)
        outputs = {name: getattr(self.data, name) for name in ("qpos", "qvel", *self.task.outputs)}
        own = {name: getattr(self.model, name) for name in self.task.own_model_fields}
        views = {name: array[None] for name, array in (outputs | own).items()}
        self.sims = Sims(self.model, self.task, views)
        self._action_shape = (self.model.nu,)
        self._row = np.array([0])
        self._ctrl = self.data.ctrl

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = build_model(self.domain, self.physics)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, mujoco.MjData(model)

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Advance one environment step of ``frame_skip`` physics steps."""
        task, sims = self.task, self.sims
        batch = check_action(action, self._action_shape)[None]
        self._ctrl[:] = task.control(sims, batch)
        mujoco.mj_step(self.model, self.data, self.frame_skip)
        observation = task.observe(sims)[0]
        rewards, infos = task.reward(sims, batch)
        terminated = task.terminated(sims).item()
        task.remember(sims, None)
        if self.render_mode == "human":
            self.render()
        info = {name: value.item() for name, value in infos.items()}
        return observation, rewards.item(), terminated, False, info

    def reset_model(self) -> Array:
        """Draw an initial state and give its observation."""
        self.task.reset(self.sims, 0, self.np_random)
        mujoco.mj_forward(self.model, self.data)
        self.task.remember(self.sims, self._row)
        return self.task.observe(self.sims)[0]

    def observe(self) -> Array:
        """Give the observation of the current state."""
        return self.task.observe(self.sims)[0]

    def set_state(self, qpos: Any, qvel: Array | None = None) -> None:
        """Put the robot somewhere: a state from :meth:`get_state`, or positions and velocities.

        Args:
            qpos: a whole state, after which every step repeats the original bit for bit; or
                positions (nq,).
            qvel: velocities (nv,), with positions only.
        """
        if qvel is not None:
            super().set_state(np.asarray(qpos, dtype=float), np.asarray(qvel, dtype=float))
            self.task.remember(self.sims, self._row)
            return
        state = {name: np.asarray(value) for name, value in qpos.items()}
        for name in self.task.own_model_fields:
            getattr(self.model, name)[:] = state[name]
        mujoco.mj_setState(self.model, self.data, state["integration"], INTEGRATION)
        mujoco.mj_forward(self.model, self.data)  # current derived fields, for observe()
        mujoco.mj_setState(self.model, self.data, state["integration"], INTEGRATION)
        for name, value in self.sims.memory.items():
            value[0] = state[name]
        self.np_random = unpack_rng(state["rng"])

    def get_state(self) -> dict[str, Array]:
        """Give everything the future depends on, as arrays: physics, goal, generator."""
        integration = np.empty(mujoco.mj_stateSize(self.model, INTEGRATION))
        mujoco.mj_getState(self.model, self.data, integration, INTEGRATION)
        own = {name: getattr(self.model, name).copy() for name in self.task.own_model_fields}
        memory = {name: value[0].copy() for name, value in self.sims.memory.items()}
        return {"integration": integration, **own, **memory, "rng": pack_rng(self.np_random)}

    def render(self):
        """Make a picture as ``render_mode`` says.

        Raises:
            RenderError: no OpenGL here; the message says what to set or install.
        """
        return render_with(self.mujoco_renderer, self.render_mode)
