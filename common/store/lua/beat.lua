-- Extends the lease of a dispatcher, and tells what has changed. Keys: all (schema: _prelude.lua).
-- ARGV: dispatcher, lease_ms, version of its table, version of its loads, limit of rows (four times as many of
-- loads, which are short), then per call that the dispatcher does not hold (see `checks`): uuid, epoch.
-- Returns {whether it has beaten under this lease (1 or 0), id of the server's run or '', checks, records, loads}:
-- `checks` is {uuid, epoch, ...} of calls whose records another process has written; records and loads: `rows_since`.
local dispatcher, lease_ms, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5])

local has_beaten = redis.call('GET', dispatcher_key(dispatcher)) == 'beat'
redis.call('SET', dispatcher_key(dispatcher), 'beat', 'PX', lease_ms)
redis.call('ZADD', DISPATCHERS, written(now_ms + lease_ms), dispatcher)
redis.call('PEXPIRE', held_key(dispatcher), lease_ms + INDEX_MS)
redis.call('PEXPIRE', checks_key(dispatcher), lease_ms + INDEX_MS)
for i = 6, #ARGV, 2 do
  -- The call may have been taken from this dispatcher again since.
  if redis.call('HGET', checks_key(dispatcher), ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', checks_key(dispatcher), ARGV[i])
  end
end
sweep()
settle()
keep_indexes()

-- A restart or a failover changes the server's run. A user that may not ask finds losses more slowly.
local server = redis.pcall('INFO', 'server')
local run = type(server) == 'string' and string.match(server, 'run_id:(%w+)') or ''
return {
  has_beaten and 1 or 0, run, some_of(checks_key(dispatcher)),
  rows_since(TABLE, ARGV[3], limit, record_row), rows_since(LOADS, ARGV[4], 4 * limit, load_row),
}
