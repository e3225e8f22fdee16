from __future__ import annotations

from tests.bench import mute


def test_cost_of_a_muted_frame_is_measured() -> None:
    cost = mute.measure(frames=50, rounds=3)
    assert cost.heard_us > 0
    assert cost.muted_us > 0
    assert "times as much" in cost.table()
