"""A pinhole camera before a synthetic landmark: where its walls fall in the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aml_edge.datasets.synthetic.landmark import Landmark
from aml_edge.datasets.synthetic.texture import MARGIN, Homography

Matrix = npt.NDArray[np.float64]
Point = tuple[float, float]


@dataclass(frozen=True)
class Pose:
    """Where the camera stands and looks.

    Args:
        yaw: how far it went around the landmark, rad; positive shows the right side.
        pitch: how far it looks up, rad.
        roll: how far it is tilted, rad.
        distance: from the landmark's middle, in units of the landmark's larger measure.
        eye: its height as a share of the landmark's.
        share: how much of the picture's width or height the front fills, whichever is more.
        shift: of the front's middle from the picture's, right and down, as shares of the picture's width and height.
        slide: further to the right, in widths of the front as seen.
    """

    yaw: float
    pitch: float
    roll: float
    distance: float
    eye: float
    share: float
    shift: Point
    slide: float = 0.0


@dataclass(frozen=True)
class Camera:
    """A camera that projects a landmark's world (x right, y up, z towards the viewer) into a picture.

    Args:
        matrix: (3, 4), from homogeneous world points to homogeneous pixels.
        eye_x: where the camera stands in x, which says which side wall it sees.
        horizon: y of the horizon at the picture's middle, px.
    """

    matrix: Matrix
    eye_x: float
    horizon: float

    def project(self, x: float, y: float, z: float) -> Point:
        """Returns the pixel of a world point."""
        column, row, depth = (self.matrix @ (x, y, z, 1.0)).tolist()
        return column / depth, row / depth


def aim(pose: Pose, landmark: Landmark, size: tuple[int, int]) -> Camera:
    """Returns the camera of a pose for a picture of `size`."""
    reach = pose.distance * max(landmark.width, landmark.height)
    sin, cos = math.sin(pose.yaw), math.cos(pose.yaw)
    turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])  # the world turns, the camera stays
    sin, cos = math.sin(pose.pitch), math.cos(pose.pitch)
    tilt = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    sin, cos = math.sin(pose.roll), math.cos(pose.roll)
    roll = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    to_picture = np.diag([1.0, -1.0, -1.0])  # y downwards, depth forwards
    rotation = to_picture @ roll @ tilt @ turn
    eye = turn.T @ (0, 0, reach) + (0, pose.eye * landmark.height, 0)
    unit = np.concatenate([rotation, -(rotation @ eye)[:, None]], axis=1)

    half = landmark.width / 2
    corners = np.array([[x, y, 0, 1] for x in (-half, half) for y in (0, landmark.height)])
    projected = corners @ unit.T
    flat = projected[:, :2] / projected[:, 2:]
    low, high = flat.min(axis=0), flat.max(axis=0)
    scale = pose.share / max((high[0] - low[0]) / size[0], (high[1] - low[1]) / size[1])
    middle = np.array(size) * (0.5 + np.array(pose.shift)) + (scale * (high[0] - low[0]) * pose.slide, 0)
    offset = middle - scale * (low + high) / 2
    lens = np.array([[scale, 0, offset[0]], [0, scale, offset[1]], [0, 0, 1]])
    horizon = offset[1] + scale * math.tan(pose.pitch)
    return Camera(lens @ unit, float(eye[0]), float(horizon))


def front_plane(camera: Camera, landmark: Landmark) -> Homography:
    """Returns the (3, 3) homography from pixels of the front's texture to pixels of the picture."""
    width, height = landmark.front.size
    unit = landmark.height / (height - 2 * MARGIN)
    origin = (-width * unit / 2, landmark.height + MARGIN * unit, 0)
    return _plane(camera, origin, (unit, 0, 0), (0, -unit, 0))


def side_plane(camera: Camera, landmark: Landmark) -> Homography:
    """Returns the homography of the texture of the side wall that the camera sees, front edge to back edge."""
    width, height = landmark.side.size
    across, down = landmark.depth / (width - 2 * MARGIN), landmark.eaves / (height - 2 * MARGIN)
    x = math.copysign(landmark.width / 2, camera.eye_x)
    return _plane(camera, (x, landmark.eaves + MARGIN * down, MARGIN * across), (0, 0, -across), (0, -down, 0))


def sees_side(camera: Camera, landmark: Landmark) -> bool:
    """Whether the camera stands far enough aside to see a side wall."""
    return abs(camera.eye_x) > landmark.width / 2 * 1.02


def roof_slope(camera: Camera, landmark: Landmark) -> list[Point]:
    """Returns the slope of the roof on the side that the camera sees, or nothing for a flat roof."""
    if landmark.ridge is None:
        return []
    ridge_x, ridge_y = landmark.ridge
    side = math.copysign(1, camera.eye_x)
    corners = ((landmark.width / 2, landmark.eaves), (ridge_x, ridge_y))
    front = [camera.project(side * x, y, 0) for x, y in corners]
    back = [camera.project(side * x, y, -landmark.depth) for x, y in corners]
    return [front[0], back[0], back[1], front[1]]


def landmark_outline(camera: Camera, landmark: Landmark) -> list[Point]:
    """Returns the projected corners of all that can be seen of the landmark."""
    half = landmark.width / 2
    points = [camera.project(x, y, 0) for x in (-half, half) for y in (0, landmark.height)]
    if sees_side(camera, landmark):
        x = math.copysign(half, camera.eye_x)
        points += [camera.project(x, y, -landmark.depth) for y in (0, landmark.eaves)]
    return points


def _plane(camera: Camera, origin: tuple[float, ...], right: tuple[float, ...], down: tuple[float, ...]) -> Homography:
    columns = [(*right, 0.0), (*down, 0.0), (*origin, 1.0)]
    plane: Homography = camera.matrix @ np.array(columns).T
    return plane
