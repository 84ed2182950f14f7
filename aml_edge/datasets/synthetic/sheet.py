"""The picture of a synthetic data set that people look at first: per landmark a query, easy, hard and junk views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from aml_edge.datasets.synthetic.plan import Role, Shot, Subject
from aml_edge.datasets.synthetic.views import Difficulty

ROWS = 12
CELL_PX = 160
GAP_PX = 4
HEAD_PX = 18
COLUMNS = {Difficulty.QUERY: 1, Difficulty.EASY: 2, Difficulty.HARD: 3, Difficulty.JUNK: 2}
PAPER, INK = (250, 250, 250), (40, 40, 40)


def contact_sheet(out: Path, planned: Sequence[Subject]) -> Image.Image:
    """Returns one row for each of the first test landmarks, read from the images below `out`."""
    rows = [subject for subject in planned if subject.role is Role.TEST][:ROWS]
    columns = [difficulty for difficulty, count in COLUMNS.items() for _ in range(count)]
    step = CELL_PX + GAP_PX
    sheet = Image.new("RGB", (GAP_PX + len(columns) * step, HEAD_PX + len(rows) * step), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, difficulty in enumerate(columns):
        draw.text((GAP_PX + column * step, 3), str(difficulty), fill=INK)
    for row, subject in enumerate(rows):
        for column, shot in enumerate(_row(subject)):
            if shot is not None:
                cell = _cell(out / shot.path)
                left, top = GAP_PX + column * step, HEAD_PX + row * step
                sheet.paste(cell, (left + (CELL_PX - cell.width) // 2, top + (CELL_PX - cell.height) // 2))
    return sheet


def _row(subject: Subject) -> list[Shot | None]:
    """The landmark's images by column; None where it has too few."""
    row: list[Shot | None] = []
    for difficulty, count in COLUMNS.items():
        found = [shot for shot in subject.shots if shot.difficulty is difficulty][:count]
        row += [*found, *[None] * (count - len(found))]
    return row


def _cell(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.thumbnail((CELL_PX, CELL_PX))
        return image.copy()
