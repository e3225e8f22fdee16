-- Notes which sinks records still wait for. Keys: all (schema: _prelude.lua).
-- ARGV, per record: id, waits ('': it is delivered to all sinks).
for i = 1, #ARGV, 2 do
  local id, waits = ARGV[i], ARGV[i + 1]
  if waits ~= '' then
    if has(PENDING, id) then redis.call('HSET', record_key(id), 'waits', waits) end
  else
    -- An erased record stays erased.
    if not redis.call('GET', gone_key(id)) then mark_gone(id, 'delivered', DELIVERED_MS) end
    if redis.call('EXISTS', record_key(id)) == 1 then redis.call('HSET', record_key(id), 'waits', '') end
    redis.call('ZREM', PENDING, id)
    redis.call('ZREM', CLAIMS, id)
    forget_unused(id)
  end
end
return 1
