"""Names, ports and network of avr-infra's compose files, which may run on the same machine as ours.

Read from its 18 files `docker-compose-*.yml` at commit 93f608ef6b9ddb1baed6772a7130682cfc81896e (12 June 2026).
Services and containers have the same names. No file has volumes with a name, or a name for its project.
"""

from __future__ import annotations

from typing import Any, Final

NAMES: Final = frozenset(
    f"avr-{name}"
    for name in (
        *(
            "ami",
            "app-backend",
            "app-frontend",
            "asterisk",
            "core",
            "kokoro",
            "n8n",
            "ollama",
            "ollama-web",
            "phone",
        ),
        *("asr-deepgram", "asr-google-cloud-speech", "asr-sarvam", "asr-soniox", "asr-vosk"),
        *("llm-anthropic", "llm-n8n", "llm-openai", "llm-openrouter", "llm-sarvam"),
        *("sts-deepgram", "sts-elevenlabs", "sts-gemini", "sts-humeai", "sts-openai", "sts-speechmatics"),
        *("sts-ultravox", "sts-xai"),
        *("tts-cartesia", "tts-deepgram", "tts-google-cloud-tts", "tts-kokoro", "tts-sarvam", "tts-soniox"),
    )
) | {"traefik"}
"""Names of services and containers, which are also names in the DNS of the network."""

PORTS: Final = frozenset(
    {80, 3001, 5001, 5038, 5060, 5678, 6006, 8080, 8088, 8089, 8880, 11434, *range(10000, 10051)}
)
"""Ports of the host. avr-app draws the ports of its agents' containers from 6000 to 6999 and publishes none."""

NETWORK: Final[dict[str, Any]] = {
    "name": "avr",
    "driver": "bridge",
    "ipam": {"config": [{"subnet": "172.20.0.0/24"}]},
}
