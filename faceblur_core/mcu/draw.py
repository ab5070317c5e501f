"""A plan as a picture: which rows of each tensor are in memory, from the first step to the last."""

from __future__ import annotations

from faceblur_core.mcu.plan import Plan, row_lives

_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 34, 210, 24  # of one tensor's strip, pixels; of what stands around them


def drawing(plan: Plan) -> str:
    """Return an SVG file: a strip for each tensor, time to the right, rows downwards, a line for each row while it is kept."""
    lives = row_lives(plan.program, plan.schedule)
    per_step = _WIDTH / len(plan.schedule)
    height = _TOP + len(plan.rows) * (_HEIGHT + 6) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 20}" height="{height}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="15" font-size="12" fill="#52606d">{len(plan.schedule)} steps, left to right</text>',
    ]
    for number, (buffer, kept) in enumerate(plan.rows.items()):
        top = _TOP + number * (_HEIGHT + 6)
        per_row = _HEIGHT / buffer.height
        lines = " ".join(
            f"M{_LEFT + life.written * per_step:.1f} {top + (row + 0.5) * per_row:.1f}H{_LEFT + (life.read + 1) * per_step:.1f}"
            for row, life in enumerate(lives[buffer])
        )
        parts += [
            f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="#f0f4f8"/>',
            f'<path d="{lines}" stroke="#2f6690" stroke-width="{max(per_row, 0.5):.2f}" fill="none"/>',
            f'<text x="4" y="{top + 14}" font-size="12" fill="#102a43">{buffer.name}</text>',
            f'<text x="4" y="{top + 28}" font-size="11" fill="#52606d">{kept.most} of {buffer.height} rows, '
            f"{kept.bytes:,} B</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])
