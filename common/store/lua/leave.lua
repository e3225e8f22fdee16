-- Ends the lease of a dispatcher that ends, or of a worker. Keys: all (schema: _prelude.lua).
-- ARGV: 'dispatcher' or 'worker', id. A dispatcher that still holds calls keeps its
-- lease to the end, because their callers may come back at another one.
local kind, id = ARGV[1], ARGV[2]

if kind == 'worker' then
  remove_worker(id)
elseif redis.call('EXISTS', held_key(id)) == 0 then
  redis.call('DEL', dispatcher_key(id), checks_key(id))
  redis.call('ZREM', DISPATCHERS, id)
end
sweep()
settle()
keep_indexes()
