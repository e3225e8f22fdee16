-- Deletes kept and dead records whose time is over, up to a bound. Keys: all (schema: _prelude.lua).
-- Returns the number of records.
local now = string.format('%.0f', now_ms)
local swept = 0
for key, until_key in pairs({[KEPT] = KEPT_UNTIL, [DEAD] = DEAD_UNTIL}) do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', until_key, '-inf', now, 'LIMIT', 0, 500)) do
    take_out(id, key, until_key)
    swept = swept + 1
  end
end
redis.call('ZREMRANGEBYSCORE', ERASURES, '-inf', string.format('%.0f', now_ms - ERASED_MS))
return swept
