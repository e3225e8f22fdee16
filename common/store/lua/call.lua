-- Reads the record of a call. Keys: call:{uuid}, dispatcher:{id}, worker:{id} (schema: _prelude.lua).
-- ARGV: uuid, field, ... Returns the values; nothing if there is no call, or its holder has no lease.
local values = redis.call('HMGET', call_key(ARGV[1]), unpack(ARGV, 2))
local holder = redis.call('HMGET', call_key(ARGV[1]), 'dispatcher', 'worker')
if not holder[1] and not holder[2] then return values end
return is_live(holder[1] or '', holder[2] or '') and values or false
