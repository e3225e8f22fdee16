"""A tool for the calls whose metrics Grafana shows."""

from __future__ import annotations

TOOL = """
name = "opening_hours"
description = "The opening hours"
input_schema = {"type": "object", "properties": {}}


def handler(uuid, args):
    return "from 9 to 5"
"""
