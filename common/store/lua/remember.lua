-- Writes the memory of pinned calls. Later writes are refused, because no process would delete them.
-- Keys: call:{uuid}, said:{uuid} (schema: _prelude.lua).
-- ARGV, per call: uuid, whether all is written anew (1 or 0), version, number of fields to delete, number of fields to
-- write, the former, then field, value, ... of the latter. Returns the uuids that are not known.
local unknown = {}
local i = 1
while ARGV[i] do
  local uuid, anew, version = ARGV[i], ARGV[i + 1] == '1', ARGV[i + 2]
  local deletions, writes = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
  i = i + 5
  local said, ttl_ms = said_key(uuid), redis.call('PTTL', call_key(uuid))
  if ttl_ms < 0 then
    unknown[#unknown + 1] = uuid
  else
    if anew then redis.call('DEL', said) end
    for field = i, i + deletions - 1 do redis.call('HDEL', said, ARGV[field]) end
    for field = i + deletions, i + deletions + 2 * writes - 1, 2 do
      redis.call('HSET', said, ARGV[field], ARGV[field + 1])
    end
    redis.call('HSET', said, 'version', version, 'fields', 0)
    redis.call('HSET', said, 'fields', redis.call('HLEN', said))
    redis.call('PEXPIRE', said, ttl_ms)
  end
  i = i + deletions + 2 * writes
end
return unknown
