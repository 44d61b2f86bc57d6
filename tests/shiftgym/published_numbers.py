"""The published shifts as compiled values, written by hand from the papers' code.

Independent of ``shiftgym/assets/domains.toml``: every row of the tables in ``physics.md`` 2.1, 2.4,
2.5 and 5. A row is (field of MjModel, element, first component, values); lengths in m, angles in
rad unless made by :func:`degrees`.
"""

from __future__ import annotations

from math import dist, radians

Row = tuple[str, str, int, tuple[float, ...]]
LEVELS = ("easy", "medium", "hard")
SIDES = ("", "_left")


def limits(joint: str, low: float, high: float) -> Row:
    return ("jnt_range", joint, 0, (low, high))


def degrees(joint: str, low: float, high: float) -> Row:
    return limits(joint, radians(low), radians(high))


def at(field: str, name: str, *values: float, first: int = 0) -> Row:
    return (field, name, first, values)


def z(field: str, name: str, value: float) -> Row:
    return (field, name, 2, (value,))


def segment(geom: str, *end: float) -> list[Row]:
    """A capsule from its body's origin to an end: centre half way, half length half as far."""
    middle = [component / 2 for component in end]
    half = dist((0, 0, 0), end) / 2
    return [at("geom_pos", geom, *middle), at("geom_size", geom, half, first=1)]


# fmt: off
# Rows 2.1: OTDF classic.
EXPECTED: dict[str, list[Row]] = {
    "hopper-kinematic": [degrees("thigh_joint", -0.15, 0), degrees("foot_joint", -18, 18)],
    "hopper-morph": [at("geom_size", "torso_geom", 0.125, 0.2),
                     at("geom_size", "thigh_geom", 0.04, 0.225)],
    "walker2d-kinematic": [degrees("foot_joint", -0.45, 0.45), degrees("foot_left_joint", -45, 45)],
    "walker2d-morph": [
        at("geom_size", "thigh_geom", 0.05, 0.0025), z("geom_pos", "thigh_geom", -0.0025),
        z("jnt_pos", "leg_joint", 0.695), at("geom_size", "leg_geom", 0.3725, first=1),
        z("geom_pos", "leg_geom", 0.3225), z("jnt_pos", "foot_joint", 0.3),
        z("geom_pos", "foot_geom", 0.3),
        at("geom_size", "thigh_left_geom", 0.05, 0.225), z("jnt_pos", "leg_left_joint", 0.25),
    ],
    "halfcheetah-kinematic": [limits("bthigh", -0.0052, 0.0105), limits("fthigh", -1, 0.7)],
    "halfcheetah-morph": [
        *segment("bthigh", -1e-4, 0, -1e-4), at("body_pos", "bshin", -1e-4, 0, -1e-4),
        *segment("bshin", -0.13, 0, -0.15), at("body_pos", "bfoot", -0.13, 0, -0.15),
        at("geom_size", "bfoot", 0.07, first=1), *segment("fthigh", 1e-4, 0, 1e-4),
        at("body_pos", "fshin", 1e-4, 0, 1e-4), *segment("fshin", 0.01, 0, -0.16),
        at("body_pos", "ffoot", 0.01, 0, -0.16), at("geom_size", "bthigh", 0.046),
    ],
    "ant-kinematic": [degrees("hip_1", -0.3, 0.3), degrees("hip_2", -0.3, 0.3),
                      degrees("hip_3", -30, 30), degrees("hip_4", -30, 30)],
    "ant-morph": [*segment("left_ankle_geom", 0.1, 0.1, 0),
                  *segment("right_ankle_geom", -0.1, 0.1, 0),
                  *segment("third_ankle_geom", -0.4, -0.4, 0),
                  *segment("fourth_ankle_geom", 0.4, -0.4, 0)],
}


def _graded(shift: str, rows: dict[str, list[Row]]) -> None:
    EXPECTED.update({f"{shift}-{level}": found for level, found in rows.items()})


def _joints(shift: str, joints: tuple[str, ...], *spans: tuple[float, float], unit=degrees) -> None:
    """Add rows to the three levels of a shift: the same limits for each of its joints."""
    for level, span in zip(LEVELS, spans, strict=True):
        EXPECTED.setdefault(f"{shift}-{level}", []).extend(unit(j, *span) for j in joints)


# Rows 2.4: ODRL kinematic.
FOOT = ((-36, 36), (-22.5, 22.5), (-9, 9))
LOWER = ((-120, 0), (-75, 0), (-30, 0))
_joints("hopper-kinematic-footjnt", ("foot_joint",), *FOOT)
_joints("hopper-kinematic-legjnt", ("leg_joint",), *LOWER)
_joints("walker2d-kinematic-footjnt", ("foot_joint", "foot_left_joint"), *FOOT)
_joints("walker2d-kinematic-thighjnt", ("thigh_joint", "thigh_left_joint"), *LOWER)
_joints("halfcheetah-kinematic-footjnt", ("bfoot",),
        (-0.32, 0.628), (-0.2, 0.3925), (-0.08, 0.157), unit=limits)
_joints(
    "halfcheetah-kinematic-footjnt",
    ("ffoot",),
    (-0.4, 0.4),
    (-0.25, 0.25),
    (-0.1, 0.1),
    unit=limits,
)
_joints("halfcheetah-kinematic-thighjnt", ("bthigh",),
        (-0.416, 0.84), (-0.26, 0.525), (-0.104, 0.21), unit=limits)
_joints("halfcheetah-kinematic-thighjnt", ("fthigh",),
        (-0.8, 0.56), (-0.5, 0.35), (-0.2, 0.14), unit=limits)
_joints("ant-kinematic-hipjnt", ("hip_1", "hip_2", "hip_3", "hip_4"), (-24, 24), (-15, 15), (-6, 6))
_joints("ant-kinematic-anklejnt", ("ankle_1", "ankle_4"), (30, 62), (30, 50), (30, 38))
_joints("ant-kinematic-anklejnt", ("ankle_2", "ankle_3"), (-62, -30), (-50, -30), (-38, -30))

# Rows 2.5: ODRL morph.
for _level, _radius, _half, _x in zip(
    LEVELS, (0.048, 0.036, 0.024), (0.156, 0.117, 0.078), (-0.078, -0.091, -0.104), strict=True
):
    _graded("hopper-morph-foot", {_level: [at("geom_size", "foot_geom", _radius, _half),
                                           at("geom_pos", "foot_geom", _x, 0, 0.1)]})
for _robot in ("hopper", "walker2d"):
    for _level, _radius, _half, _z in zip(
        LEVELS, (0.075, 0.1, 0.125), (0.24, 0.32, 0.4), (0.04, 0.12, 0.2), strict=True
    ):
        _graded(f"{_robot}-morph-torso", {_level: [at("geom_size", "torso_geom", _radius, _half),
                                                   z("geom_pos", "torso_geom", _z)]})
for _level, _thigh, _joint, _shin, _z in zip(
    LEVELS,
    (0.275, 0.35, 0.425),
    (0.15, 0, -0.15),
    (0.2, 0.125, 0.05),
    (-0.05, -0.125, -0.2),
    strict=True,
):
    _graded("walker2d-morph-leg", {_level: [
        row for side in SIDES for row in (
            at("geom_size", f"thigh{side}_geom", 0.05, _thigh),
            z("geom_pos", f"thigh{side}_geom", -_thigh),
            z("jnt_pos", f"leg{side}_joint", _joint),
            at("geom_size", f"leg{side}_geom", 0.04, _shin),
            z("geom_pos", f"leg{side}_geom", _z))
    ]})
for _level, _half, _head in zip(LEVELS, (0.4, 0.25, 0.1), (0.5, 0.35, 0.2), strict=True):
    _graded("halfcheetah-morph-torso", {_level: [
        at("geom_size", "torso", 0.046, _half), at("body_pos", "bthigh", -_half, 0, 0),
        at("body_pos", "fthigh", _half, 0, 0), at("geom_pos", "head", _head, 0, 0.1),
    ]})
for _level, _back, _front in zip(
    LEVELS,
    ((0.11, 0, -0.11), (0.08, 0, -0.08), (0.02, 0, -0.02)),
    ((-0.09, 0, -0.1), (-0.07, 0, -0.08), (-0.04, 0, -0.05)),
    strict=True,
):
    _graded("halfcheetah-morph-thigh", {_level: [
        *segment("bthigh", *_back), at("body_pos", "bshin", *_back),
        *segment("bshin", -0.13, 0, -0.15),
        at("body_pos", "bfoot", -0.13, 0, -0.15), *segment("fthigh", *_front),
        at("body_pos", "fshin", *_front), *segment("fshin", 0.11, 0, -0.13),
        at("body_pos", "ffoot", 0.11, 0, -0.13),
    ]})
for _level, _end in zip(LEVELS, (0.32, 0.2, 0.08), strict=True):
    _legs = [
        *segment("left_ankle_geom", _end, _end, 0),
        *segment("right_ankle_geom", -_end, _end, 0),
    ]
    _hind = [
        *segment("third_ankle_geom", -_end, -_end, 0),
        *segment("fourth_ankle_geom", _end, -_end, 0),
    ]
    _graded("ant-morph-halflegs", {_level: _legs})
    _graded("ant-morph-alllegs", {_level: _legs + _hind})

# Rows 5: Adroit, each at x 1/2, 1/4, 1/8; THJ0's published base is 1.57, not 1.571.
BROKEN = {
    "FFJ3": (-0.436, 0.436), "FFJ2": (0, 1.571), "FFJ1": (0, 1.571), "FFJ0": (0, 1.571),
    "THJ4": (-1.047, 1.047), "THJ3": (0, 1.309), "THJ2": (-0.262, 0.262), "THJ1": (-0.524, 0.524),
    "THJ0": (-1.57, 0),
}
SLIP = 0.03125  # the published lfdistal at "hard", for 0.003125


def _shrunk(scale: float, lfdistal: float) -> list[Row]:
    rows = [z("body_pos", "lfknuckle", 0.044 * scale)]
    for f in ("ff", "mf", "rf", "lf"):
        for part, half in (("proximal", 0.0225), ("middle", 0.0125), ("distal", 0.012)):
            rows += [at("geom_size", f"C_{f}{part}", half * scale, first=1),
                     z("geom_pos", f"C_{f}{part}", half * scale)]
        rows += [
            z("body_pos", f"{f}middle", 0.045 * scale),
            z("body_pos", f"{f}distal", lfdistal if f == "lf" else 0.025 * scale),
            z("body_ipos", f"{f}proximal", 0.023 * scale),
            z("body_ipos", f"{f}middle", (0.011 if f == "ff" else 0.012) * scale),
            z("body_ipos", f"{f}distal", 0.015 * scale),
            z("site_pos", f"S_{f}tip", 0.026 * scale),
        ]
    return rows


for _robot in ("pen", "door"):
    for _level, _scale in zip(LEVELS, (0.5, 0.25, 0.125), strict=True):
        EXPECTED[f"{_robot}-kinematic-{_level}"] = [
            limits(joint, low * _scale, high * _scale) for joint, (low, high) in BROKEN.items()
        ]
        _distal = SLIP if _level == "hard" else 0.025 * _scale
        EXPECTED[f"{_robot}-morph-{_level}"] = _shrunk(_scale, _distal)
    EXPECTED[f"{_robot}-morph-hard-fixed"] = _shrunk(0.125, 0.003125)
