"""Settings that are secrets, with values of the tests, and the roles that read them."""

from __future__ import annotations

TOKEN = "a-token-of-this-test"
WRITTEN = {
    "OPENAI_API_KEY": "sk-key-of-this-test",
    "SAFETY_IDENTIFIER_SECRET": TOKEN,
    "OPENAI_URL_INSTRUCTIONS": "https://user:password@example.com",
    "OPENAI_MCP_SERVERS": '[{"server_label": "a", "server_url": "https://example.com", "authorization": "b"}]',
    "OPENAI_SESSION": '{"tracing": "auto"}',
    "STS_TOKEN": TOKEN,
    "ADMIN_TOKEN": TOKEN,
    "CLUSTER_TOKEN": TOKEN,
    "CALL_RECORDS_WEBHOOK": "https://user:password@example.com/records",
    "CALL_RECORDS_SECRET": TOKEN,
    "CALL_RECORDS_REDIS_URL": "redis://:password@127.0.0.1:2",
    "REDIS_URL": "redis+sentinel://127.0.0.1:1/calls",
    "REDIS_URL_PASSWORD": "password",
    "REDIS_SENTINEL_PASSWORD": "password",
}
OF_WORKERS = {name for name in WRITTEN if name.startswith("OPENAI_")} | {"SAFETY_IDENTIFIER_SECRET"}
OF_DISPATCHERS = {"STS_TOKEN", "ADMIN_TOKEN"} | {name for name in WRITTEN if name.startswith("CALL_RECORDS_")}
