-- Writes what was said in a call that is pinned; what is written later than that has nobody to delete it.
-- Keys: call:{uuid}, call:{uuid}:said (schema: _prelude.lua).
-- ARGV: uuid, whether all is written anew (1 or 0), number of fields to delete, those, then field, value, ...
-- Returns 1, or 0 if the call is unknown.
local uuid, anew, deletions = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])

local ttl_ms = redis.call('PTTL', call_key(uuid))
if ttl_ms < 0 then return 0 end
if anew then redis.call('DEL', said_key(uuid)) end
for i = 4, 3 + deletions do redis.call('HDEL', said_key(uuid), ARGV[i]) end
for i = 4 + deletions, #ARGV, 2 do redis.call('HSET', said_key(uuid), ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', said_key(uuid), ttl_ms)
return 1
