"""``faceblur train``: its commands are the components of kind ``trainer``."""

from __future__ import annotations

import click

from faceblur_core.cli import PluginGroup
from faceblur_core.hookspecs import Kind


class TrainerGroup(PluginGroup):
    """The trainers of all plugins."""

    kind: Kind = "trainer"


@click.command(cls=TrainerGroup)
def train() -> None:
    """Train a network on a data set (faceblur dataset build makes one)."""
