-- Renews the claims of the records that a process holds. Keys: all (schema: _prelude.lua).
-- ARGV: process, lease_ms, ids.
-- Returns {{id, why, ...}, {selector, time, ...}}. The first has the records that are not claimed: `unknown` (Redis has
-- lost or dropped it), `taken`, `delivered` or `erased`. The second has all erasures.
local process, lease_ms = ARGV[1], tonumber(ARGV[2])
local lost = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local owner = redis.call('HGET', record_key(id), 'owner')
  local why = false
  if not owner then
    why = redis.call('GET', gone_key(id)) or 'unknown'
  elseif not has(PENDING, id) then
    why = redis.call('GET', gone_key(id)) or 'taken'
  elseif owner ~= process and claim_is_live(id) then
    why = 'taken'
  end
  if why then
    lost[#lost + 1] = id
    lost[#lost + 1] = why
  else
    redis.call('HSET', record_key(id), 'owner', process)
    index(CLAIMS, now_ms + lease_ms, id, PENDING_MS)
  end
end
return {lost, redis.call('ZRANGE', ERASURES, 0, -1, 'WITHSCORES')}
