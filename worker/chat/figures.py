"""Words for the tokens, the cost and the time of turns."""

from __future__ import annotations

from collections import Counter

from common.link import wire


def tokens_of(figures: wire.Figures) -> Counter[str]:
    """Return the tokens of all models by class."""
    total: Counter[str] = Counter()
    for classes in figures.tokens.values():
        total.update(classes)
    return total


def told(before: wire.Figures, after: wire.Figures) -> str:
    """Describe tokens and cost between two reports of one session."""
    used = tokens_of(after) - tokens_of(before)
    cached = used["cached_text"] + used["cached_audio"]
    read = used["input_text"] + used["input_audio"] + cached
    made = used["output_text"] + used["output_audio"]
    parts = [f"{read:,} tokens in ({cached:,} cached)", f"{made:,} out ({used['output_audio']:,} of audio)"]
    if not read and not made:
        return "the API reported no tokens"
    cost_usd = after.cost_usd - before.cost_usd
    return ", ".join([*parts, f"${cost_usd:.4f}" if cost_usd > 0 else "cost unknown"])


def tool(name: str, output: str, figure: wire.ToolFigure | None) -> str:
    """Describe a tool that has ended; without a figure the service has answered in its place."""
    how = "not run" if figure is None else f"{figure.outcome} after {figure.seconds:.2f} s"
    return f"tool {name}: {how}: {output}"
