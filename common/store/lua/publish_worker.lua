-- A worker's heartbeat. Keys: workers, worker:{id} (schema: _prelude.lua).
-- ARGV: id, lease_ms, then field, value, ... of its record.
local id, lease_ms = ARGV[1], tonumber(ARGV[2])

redis.call('HSET', worker_key(id), unpack(ARGV, 3))
redis.call('PEXPIRE', worker_key(id), lease_ms)
add_leases(WORKERS, lease_ms, {now_ms + lease_ms, id})
