"""The audio of calls from the page, by numbers: its resampler, its frames, and the bound of what waits.

The page's own file runs in Chromium, with the headers that the dispatcher sends.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from aiohttp import web
from numpy.typing import NDArray
from playwright.async_api import Page

from dispatcher.api import page as static
from dispatcher.api.access import Access
from tests.page.browser import DESKTOP, browsing
from tests.scenarios.tones import loudest, signal_to_noise_db

pytestmark = pytest.mark.system

SOUND_CARDS_HZ: Final = (16_000, 44_100, 48_000, 96_000)
LINE_HZ: Final = 8000
ABOVE_HZ: Final = (4000, 4300, 4700, 5000, 6000, 7700, 9000, 12_000, 20_000)
IN_BAND_HZ: Final = (50, 300, 1000, 2000, 3000, 3300, 3400)

RESAMPLE: Final = """async ([fromHz, toHz, tones, seconds]) => {
    const { Resampler } = await import("/page/agent_call_audio.js");
    return tones.map((hz) => {
        const resampler = new Resampler(fromHz, toHz);
        const made = [];
        const block = new Float32Array(128);
        for (let start = 0; start < fromHz * seconds; start += block.length) {
            for (let k = 0; k < block.length; k += 1) {
                block[k] = 0.5 * Math.sin((2 * Math.PI * hz * (start + k)) / fromHz);
            }
            resampler.push(block, (sample) => made.push(sample));
        }
        return made;
    });
}"""


@contextlib.asynccontextmanager
async def audio_page(chromium: str, profile: Path) -> AsyncIterator[Page]:
    """Open the page's file in Chromium."""
    app = web.Application()
    app.add_routes(static.routes(Access(None)))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    sock = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, sock).start()
    try:
        async with browsing(chromium, profile, DESKTOP) as (page, _):
            await page.goto(f"http://127.0.0.1:{sock.getsockname()[1]}/page/icon.svg")
            yield page
    finally:
        await runner.cleanup()


async def resampled(page: Page, from_hz: int, to_hz: int, tones: tuple[int, ...]) -> list[NDArray[np.float64]]:
    """Return the resampled sines, each of amplitude 0.5, without the filter's start."""
    made: list[Any] = await page.evaluate(RESAMPLE, [from_hz, to_hz, list(tones), 0.5])
    for each in made:
        assert abs(len(each) - to_hz * 0.5) < 128 * to_hz / from_hz + 1
    return [np.array(each[to_hz // 20 :]) for each in made]


def level_db(samples: NDArray[np.float64]) -> float:
    """Return the level against the sine that went in."""
    return float(10 * np.log10(2 * np.mean(samples**2) / 0.25 + 1e-15))


def pcm(samples: NDArray[np.float64]) -> bytes:
    return np.rint(samples * 32767).astype("<i2").tobytes()


async def test_the_telephone_band_passes_and_nothing_folds_into_it(chromium: str, tmp_path: Path) -> None:
    async with audio_page(chromium, tmp_path) as page:
        for card_hz in SOUND_CARDS_HZ:
            for hz, samples in zip(IN_BAND_HZ, await resampled(page, card_hz, LINE_HZ, IN_BAND_HZ), strict=True):
                assert abs(level_db(samples)) < 0.05, (card_hz, hz)
                assert abs(loudest(pcm(samples)) - hz) < 1, (card_hz, hz)
                assert signal_to_noise_db(pcm(samples)) > 65, (card_hz, hz)
            above = tuple(
                hz for hz in (4000, 4300, 4700, 5000, 6000, 7700, 9000, 12_000, 20_000) if 2 * hz <= card_hz
            )
            for hz, samples in zip(above, await resampled(page, card_hz, LINE_HZ, above), strict=True):
                assert level_db(samples) < -70, (card_hz, hz)


async def test_a_reply_has_no_image_above_the_telephone_band(chromium: str, tmp_path: Path) -> None:
    async with audio_page(chromium, tmp_path) as page:
        for card_hz in SOUND_CARDS_HZ:
            made = await resampled(page, LINE_HZ, card_hz, IN_BAND_HZ)
            for hz, samples in zip(IN_BAND_HZ, made, strict=True):
                assert abs(level_db(samples)) < 0.05, (card_hz, hz)
                # All that is not the tone: images of it, and the filter's noise.
                assert signal_to_noise_db(pcm(samples), rate_hz=card_hz) > 65, (card_hz, hz)


async def test_the_same_rate_passes_unchanged(chromium: str, tmp_path: Path) -> None:
    async with audio_page(chromium, tmp_path) as page:
        (made,) = await resampled(page, LINE_HZ, LINE_HZ, (1000,))
        time = np.arange(LINE_HZ // 20, LINE_HZ // 20 + len(made)) / LINE_HZ
        assert np.max(np.abs(made - 0.5 * np.sin(2 * np.pi * 1000 * time))) < 1e-6


async def test_the_filter_delays_by_less_than_five_milliseconds(chromium: str, tmp_path: Path) -> None:
    async with audio_page(chromium, tmp_path) as page:
        delays = await page.evaluate(
            """async (rates) => {
                const { Resampler } = await import("/page/agent_call_audio.js");
                return rates.map(([from, to]) => new Resampler(from, to).delaySamples / from);
            }""",
            [[hz, LINE_HZ] for hz in SOUND_CARDS_HZ] + [[LINE_HZ, hz] for hz in SOUND_CARDS_HZ],
        )
        assert max(delays) < 0.005


async def test_frames_have_twenty_milliseconds_and_saturate(chromium: str, tmp_path: Path) -> None:
    async with audio_page(chromium, tmp_path) as page:
        frames = await page.evaluate(
            """async () => {
                const { FrameMaker } = await import("/page/agent_call_audio.js");
                const maker = new FrameMaker(48000);
                const made = [];
                for (let k = 0; k < 75; k += 1) {
                    const block = new Float32Array(128).fill(k < 40 ? 4 : -4);
                    maker.push(block, (pcm, dbfs) => made.push([[...pcm], dbfs]));
                }
                return made;
            }"""
        )
        assert [len(samples) for samples, _ in frames] == [160] * 10
        assert frames[3][0] == [32767] * 160
        assert frames[9][0] == [-32767] * 160


async def test_audio_that_waits_is_bounded_and_can_be_dropped(chromium: str, tmp_path: Path) -> None:
    async with audio_page(chromium, tmp_path) as page:
        found = await page.evaluate(
            """async () => {
                const { PlayBuffer, MOST_PLAY_SECONDS, PRIME_SAMPLES } = await import("/page/agent_call_audio.js");
                const buffer = new PlayBuffer();
                const block = new Float32Array(80);
                const second = new Int16Array(8000).fill(1000);
                for (let k = 0; k < MOST_PLAY_SECONDS + 5; k += 1) buffer.add(second);
                const full = [buffer.length / 8000, buffer.dropped / 8000];
                buffer.take(block);
                const first = block[0];
                buffer.flush();
                buffer.take(block);
                const flushed = [buffer.length, block[0]];

                // Fewer samples than the start needs: they wait as long as the start would take, and no longer.
                buffer.add(second.subarray(0, 100));
                let silent = 0;
                for (; silent < 10_000; silent += 80) {
                    buffer.take(block);
                    if (block[0]) break;
                }
                buffer.take(block);
                const rest = block.filter((each) => each).length;
                return { full, first, flushed, silent, rest, prime: PRIME_SAMPLES, isPlaying: buffer.isPlaying };
            }"""
        )
        assert found["full"] == [240, 5]
        assert found["first"] == pytest.approx(1000 / 32768)
        assert found["flushed"] == [0, 0]
        assert found["silent"] == found["prime"] == 480
        assert found["rest"] == 20
        assert not found["isPlaying"]
