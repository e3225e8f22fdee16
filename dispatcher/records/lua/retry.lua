-- Makes dead records pending again; their day begins anew. Keys: all (schema: _prelude.lua).
-- ARGV: uuid of a call; '': all. Returns the number of records.
local ids = ARGV[1] == '' and redis.call('ZRANGE', DEAD, 0, -1) or redis.call('SMEMBERS', call_key(ARGV[1]))
local retried = 0
for _, id in ipairs(ids) do
  local ended_ms = redis.call('ZSCORE', DEAD, id)
  if ended_ms and redis.call('EXISTS', record_key(id)) == 1 then
    redis.call('ZREM', DEAD, id)
    redis.call('ZREM', DEAD_UNTIL, id)
    redis.call('HSET', record_key(id), 'since_ms', string.format('%.0f', now_ms), 'reason', '')
    touch(record_key(id), PENDING_MS)
    index(PENDING, ended_ms, id, PENDING_MS)
    index(CLAIMS, 0, id, PENDING_MS)
    retried = retried + 1
  end
end
return retried
