"""Write a trained policy as an ONNX graph, for robots and programs without Python.

    observation (N, O) float32 -> - shift, / scale -> [* W + b, max(0, .)] ... -> tanh
                               -> * half, + center -> action (N, A) float32

The graph is compared with numpy before it is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shiftgym.basics.errors import ShiftgymError
from shiftgym_agents.training.artifacts import provenance, write_bytes
from shiftgym_agents.training.trained import TrainedPolicy

OPSET, IR = 17, 8  # understood by every runtime since 2022
TOLERANCE = 1e-5  # largest difference from numpy, in halves of the box of actions
CHECKED, SPREAD = 1000, 3.0  # observations compared, and how many deviations they spread over


def export_onnx(policy: TrainedPolicy, path: Path) -> float:
    """Write a policy as ONNX.

    Args:
        policy: what to write.
        path: the file; an older one is replaced.

    Returns:
        The largest difference from numpy that was found, in halves of the box of actions.

    Raises:
        ShiftgymError: the package onnx is not installed, the graph differs from numpy, or the file
            cannot be written; nothing was written then.
    """
    try:
        import onnx
        from onnx.reference import ReferenceEvaluator
    except ImportError:
        raise ShiftgymError(
            "Writing ONNX needs the package onnx: pip install 'shiftgym[onnx]'"
        ) from None
    model = build_graph(policy)
    onnx.checker.check_model(model)
    observations = sample(policy)
    (found,) = ReferenceEvaluator(model).run(None, {"observation": observations})
    worst = difference(policy, observations, np.asarray(found))
    if not worst <= TOLERANCE:
        raise ShiftgymError(
            f"The graph's actions differ from numpy's by {worst:.1e} of half their range, more "
            f"than {TOLERANCE:g}: nothing was written."
        )
    write_bytes(path, model.SerializeToString())
    return worst


def build_graph(policy: TrainedPolicy) -> Any:
    """Give the ONNX model of a policy."""
    from onnx import TensorProto, helper, numpy_helper

    own = policy.policy
    constants: dict[str, np.ndarray] = {"shift": own.shift[0, 0], "scale": own.scale[0, 0]}
    nodes = [("Sub", "observation", "shift"), ("Div", "", "scale")]
    for i, (weight, bias) in enumerate(own.layers):
        last = i == len(own.layers) - 1
        kept = slice(own.act_size) if last else slice(None)  # the rest of a last layer is no action
        constants |= {f"W{i}": weight[0][:, kept], f"b{i}": bias[0, 0][kept]}
        nodes += [("MatMul", "", f"W{i}"), ("Add", "", f"b{i}"), ("Tanh" if last else "Relu", "")]
    constants |= {"half": own.half[0, 0], "center": own.center[0, 0]}
    nodes += [("Mul", "", "half"), ("Add", "", "center")]
    made, at = [], "observation"
    for k, (kind, _, *constant) in enumerate(nodes):
        after = "action" if k == len(nodes) - 1 else f"x{k}"
        made.append(helper.make_node(kind, [at, *constant], [after]))
        at = after
    sizes = {"observation": own.shift.shape[-1], "action": own.act_size}
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])
        for name, size in sizes.items()
    ]
    weights = [
        numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(made, "policy", ends[:1], ends[1:], weights)
    opset = [helper.make_opsetid("", OPSET)]
    versions = provenance()
    model = helper.make_model(
        graph,
        producer_name="shiftgym",
        producer_version=versions["shiftgym"],
        opset_imports=opset,
        ir_version=IR,
    )
    facts = {key: str(getattr(policy, key)) for key in ("method", "source", "target", "seed")}
    helper.set_model_props(model, facts | {"updates": str(policy.updates)})
    return model


def sample(policy: TrainedPolicy) -> np.ndarray:
    """Draw observations about those that the policy learned from, (k, O) float32."""
    own = policy.policy
    drawn = np.random.default_rng(0).normal(size=(CHECKED, own.shift.shape[-1]))
    return (own.shift[0] + SPREAD * own.scale[0] * drawn).astype(np.float32)


def difference(policy: TrainedPolicy, observations: np.ndarray, actions: np.ndarray) -> float:
    """Give the largest difference of actions from the policy's, in halves of their box."""
    gap = np.abs(actions - policy.act(observations)) / policy.policy.half[0]
    return float(gap.max())
