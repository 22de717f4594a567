"""Faces painted with numpy: from numbers that describe people to images of 48 x 48 pixels.

`synthetic.py` decides who is painted and how they feel. Every layer below adds shapes of a face to
a `Canvas`, for all faces of a batch at once, from the backdrop to the glasses.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from fer_search.data.canvas import Canvas, ellipse, stroke

_BROW_Y, _EYE_Y, _NOSE_Y, _MOUTH_Y = -0.36, -0.1, 0.3, 0.58


def paint(people: SimpleNamespace) -> np.ndarray:
    """Paint one face per person.

    Args:
        people: Their traits and actions by name, see `synthetic.py`; each of shape (N, 1, 1).

    Returns:
        Shape (N, 48, 48), float32; light in [0, 1].
    """
    canvas = Canvas(people)
    for layer in (
        _background, _hair, _neck, _ears, _head, _creases, _nose, _beard, _mouth, _eyes, _brows,
        _fringe, _glasses,
    ):  # fmt: skip
        layer(canvas, people)
    return np.clip(canvas.light, 0, 1, out=canvas.light)


def _background(c: Canvas, p: SimpleNamespace) -> None:
    c.light += p.backdrop + p.backdrop_slope * c.across - 0.1 * c.down
    blot = ellipse(c.across - p.blot_x, c.down - p.blot_y, 0.5, 0.8)
    c.fill(blot, p.blot, strength=0.6, soft=8)


def _hair(c: Canvas, p: SimpleNamespace) -> None:
    c.fill(c.hair, p.hair * (1 + 0.07 * np.sin(9 * c.head_x + 4 * p.blot_x)), strength=p.has_hair)


def _neck(c: Canvas, p: SimpleNamespace) -> None:
    c.fill(np.maximum(np.abs(c.head_x) - 0.55, 0.5 - c.y), p.skin * 0.62, soft=3)
    c.fill(ellipse(c.head_x, c.y - 1.75, 1.7, 0.55), p.clothes)


def _ears(c: Canvas, p: SimpleNamespace) -> None:
    ear = ellipse(np.abs(c.head_x) - 0.99, c.y + 0.02, 0.13, 0.23)
    c.fill(ear, p.skin * 0.8, strength=p.hair_length < 0.5)


def _head(c: Canvas, p: SimpleNamespace) -> None:
    lit = p.light_x * c.head_x + p.light_y * c.y - 0.22 * (c.head + 1) ** 2
    c.fill(c.head, p.skin * (1.12 + lit))
    for bulge_x, bulge_y, size in ((0.52, 0.22, 0.3), (0.0, -0.62, 0.35)):  # cheeks, forehead
        blob = ellipse(c.side - bulge_x, c.y - bulge_y, size, size * 0.8)
        c.shade(blob, 1.07, soft=7)


def _creases(c: Canvas, p: SimpleNamespace) -> None:
    """Paint the lines that expressions draw into the skin, and the shadows of raised cheeks."""
    fold = c.side - 0.2 - 0.75 * (c.y - 0.26) * (1 + 0.4 * p.mouth_width)
    depth = np.clip(p.fold, 0, 1.3)
    c.shade(stroke(c.y - 0.42, fold, 0.13, 0.012), 1 - 0.38 * depth, soft=2.2)
    cheek = ellipse(c.side - 0.5, c.y - 0.2, 0.24, 0.16)
    c.shade(cheek, 1 + 0.13 * np.clip(p.cheek, 0, 1.3), soft=4)
    for height in (-0.6, -0.74):
        wave = c.y - height + 0.06 * c.side - 0.05 * p.brow_arch
        c.shade(stroke(c.x, wave, 0.42, 0.012), 1 - 0.3 * np.clip(p.forehead, 0, 1.2), soft=1.6)
    knit = stroke(c.y + 0.34, c.side - 0.075, 0.1, 0.015)
    c.shade(knit, 1 - 0.5 * np.clip(p.brow_knit, 0, 1.2), soft=1.8)
    for height in (-0.14, -0.02, 0.1):
        line = c.y - height - 0.35 * c.side
        wrinkle = stroke(c.side - 0.09, line, 0.1, 0.016)
        c.shade(wrinkle, 1 - 0.5 * np.clip(p.nose_wrinkle, 0, 1.2), soft=1.5)


def _nose(c: Canvas, p: SimpleNamespace) -> None:
    lift = 0.05 * p.nose_wrinkle
    tip = _NOSE_Y * p.nose_length - lift
    wide = p.nose_width * (1 + 0.18 * p.nose_wrinkle + 0.1 * p.brow_knit)
    bridge = stroke(c.y - tip / 2, c.x + np.sign(p.light_x) * 0.1, 0.2, 0.04)
    c.shade(bridge, 0.86, soft=3)
    c.shade(ellipse(c.x, c.y - tip + 0.04, 0.09, 0.2), 1.1, soft=4)
    wing = ellipse(c.side - wide, c.y - tip - 0.03, 0.06, 0.07)
    c.shade(wing, 0.84, soft=2.5)
    c.shade(ellipse(c.x, c.y - tip - 0.12, wide, 0.03), 0.85, soft=3)
    c.shade(ellipse(c.side - wide * 0.62, c.y - tip - 0.07, 0.055, 0.03), 0.35, soft=1.6)


def _beard(c: Canvas, p: SimpleNamespace) -> None:
    rim = np.maximum(np.maximum(c.head + 0.03, -0.26 - c.head), 0.05 - c.y)
    chin = np.maximum(c.head + 0.03, ellipse(c.x, c.y - 0.95, 0.6, 0.3))
    c.fill(np.minimum(rim, chin), p.hair, strength=p.beard, soft=3)
    lip = stroke(c.x, c.y - 0.47 - 0.2 * c.side**2 + 0.05 * p.lip_raise, 0.24, 0.045)
    c.fill(lip, p.hair, strength=p.moustache, soft=2)


def _mouth(c: Canvas, p: SimpleNamespace) -> None:
    width = p.mouth_size * (1 + 0.32 * p.mouth_width)
    t = c.x / width
    dome = 1 - t * t
    opened = np.clip(p.mouth_open, 0, 1.3)
    raised = np.clip(p.lip_raise, 0, 1.3)
    middle = _MOUTH_Y + 0.05 * opened + 0.16 * p.mouth_corners * (dome - 0.45) + p.smirk * c.x
    rounded = np.sqrt(np.maximum(dome, 0)) * p.mouth_round + dome * (1 - p.mouth_round)
    top = middle - (0.17 * opened + 0.1 * raised) * rounded
    bottom = middle + (0.25 * opened + 0.02 * raised) * rounded
    full = p.lips * (1 - 0.75 * np.clip(p.lip_press, 0, 1))
    bow = 1 - 0.25 * np.exp(-((c.x / 0.06) ** 2))
    upper = top - 0.075 * full * dome * bow - 0.012
    lower = bottom + 0.105 * full * dome + 0.012
    inside = np.abs(c.x) - width
    lips = np.maximum(np.maximum(upper - c.y, c.y - lower), inside)
    shadow = ellipse(c.x, c.y - lower - 0.08, width * 0.6, 0.035)
    c.shade(shadow, 0.85, soft=3)
    c.fill(lips, p.skin * p.lip_light)
    gap = np.maximum(np.maximum(top - c.y, c.y - bottom), inside)
    line = np.maximum(np.abs(c.y - middle) - 0.02 - 0.014 * p.lip_press, inside - 0.02)
    c.fill(np.minimum(line, gap), p.skin * 0.22)
    teeth = np.clip(p.teeth, 0, 1)
    row = np.maximum(gap + 0.012, c.y - top - (0.1 + 0.2 * teeth * opened))
    c.fill(row, 0.55 + 0.35 * p.skin, strength=teeth * np.minimum(1, 3 * (opened + raised)))
    tongue = np.maximum(gap + 0.02, ellipse(c.x, c.y - bottom, width * 0.6, 0.12))
    c.fill(tongue, p.skin * 0.5, strength=0.7 * opened, soft=2)
    corner = ellipse(c.side - width, c.y - middle, 0.04, 0.05)
    c.shade(corner, 0.8, soft=2.5)


def _eyes(c: Canvas, p: SimpleNamespace) -> None:
    x = c.side - p.eye_x
    y = c.y - _EYE_Y - p.eye_slant * x
    width = p.eye_size
    dome = 1 - (x / width) ** 2
    upper = width * 0.52 * np.maximum(1 + 0.75 * p.eye_open, 0.06) * dome
    lower = width * (0.36 + 0.12 * p.eye_open - 0.26 * p.lower_lid) * dome
    c.shade(ellipse(x, y, width * 1.35, width), 0.84, soft=5)
    opening = np.maximum(-upper - y, y - lower)
    white = np.minimum(0.9, 0.5 + 0.42 * p.skin)
    c.fill(opening, white)
    gaze = c.x - np.sign(c.x) * p.eye_x - p.gaze
    iris = np.hypot(gaze, y + 0.03) - width * 0.5
    c.fill(np.maximum(iris, opening), p.iris)
    c.fill(np.maximum(iris + width * 0.26, opening), 0.03)
    glint = np.hypot(gaze + 0.05, y + 0.08) - 0.03
    c.fill(np.maximum(glint, opening), 0.95, strength=0.8)
    lash = stroke(x, y + upper, width, p.lashes)
    c.fill(lash, p.skin * 0.18)
    c.shade(stroke(x, y - lower, width * 0.85, 0.012), 0.62 - 0.12 * p.lower_lid)
    lid = stroke(x, y + upper + 0.075 - 0.02 * p.eye_open, width * 0.9, 0.012)
    c.shade(lid, 0.78, soft=1.5)
    bag = stroke(x, y - lower - 0.09, width * 0.7, 0.015)
    c.shade(bag, 1 - 0.25 * np.clip(p.lower_lid + p.bags, 0, 1), soft=2)


def _brows(c: Canvas, p: SimpleNamespace) -> None:
    inner = p.eye_x - 0.23 - 0.07 * p.brow_knit
    outer = p.eye_x + 0.25
    t = (c.side - inner) / (outer - inner)
    inside = np.clip(t, 0, 1)
    lift = p.brow_inner * (1 - inside) + p.brow_outer * inside
    arch = (0.05 + 0.07 * p.brow_arch) * 4 * inside * (1 - inside)
    y = c.y - _BROW_Y - p.brow_height + 0.15 * lift + arch
    thickness = p.brow_thickness * (1.15 - 0.75 * inside)
    half = (outer - inner) / 2
    brow = stroke(c.side - inner - half, y, half, thickness)
    c.fill(brow, p.hair * 0.7, strength=p.brow_strength, soft=1.5)


def _fringe(c: Canvas, p: SimpleNamespace) -> None:
    line = p.hairline + p.parting * c.head_x + 0.32 * c.head_x**2
    fringe = np.maximum(np.maximum(c.hair, c.head - 0.1), c.y - line)
    streaks = 1 + 0.1 * np.sin(11 * c.head_x + 6 * c.y + 6 * p.blot_x)
    c.fill(fringe, p.hair * streaks, strength=p.has_hair, soft=1.5)


def _glasses(c: Canvas, p: SimpleNamespace) -> None:
    x, y = c.side - p.eye_x, c.y - _EYE_Y - 0.03
    rim = np.abs(ellipse(x, y, 0.3, 0.24)) - 0.022
    bridge = stroke(c.x, y + 0.08, p.eye_x - 0.3, 0.02)
    temple = stroke(c.side - p.eye_x - 0.45, y + 0.08, 0.15, 0.02)
    frame = np.minimum(np.minimum(rim, bridge), temple)
    c.fill(frame, p.frame_light, strength=p.glasses)
