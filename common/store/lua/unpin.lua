-- Deletes an ended call. Keys: call:{uuid}, said:{uuid}, calls, worker:{id}:calls (schema: _prelude.lua).
-- ARGV: uuid, the highest epoch that its dispatcher knows. Returns 1, or 0 if the call is unknown or was pinned
-- at a higher epoch since.
local uuid, epoch = ARGV[1], tonumber(ARGV[2])

local held = redis.call('HMGET', call_key(uuid), 'worker', 'epoch')
if not held[1] or (tonumber(held[2]) or 0) > epoch then return 0 end
redis.call('DEL', call_key(uuid), said_key(uuid))
redis.call('ZREM', CALLS, uuid)
redis.call('ZREM', slots_key(held[1]), uuid)
return 1
