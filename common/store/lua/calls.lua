-- Reads a page of the calls, the oldest or the newest first. Keys: calls, call:{uuid}, dispatcher:{id}, worker:{id}
-- (schema: _prelude.lua). ARGV: started_at_ms and uuid behind which the page begins (or '' and ''), limit, the newest
-- first (1 or 0), field, ...
-- Returns {rows, started_at_ms, uuid, number of all calls}: the page ends at started_at_ms and uuid, both '' if it is
-- the last one. A row is {uuid, values}.
local started_at_ms, after_uuid, limit, newest = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local range, rank = newest and 'ZREVRANGE' or 'ZRANGE', newest and 'ZREVRANK' or 'ZRANK'

local first = 0
if started_at_ms ~= '' then
  local place = redis.call(rank, CALLS, after_uuid)
  if place and tonumber(redis.call('ZSCORE', CALLS, after_uuid)) == tonumber(started_at_ms) then
    first = place + 1
  else
    -- The call has ended since.
    if newest then
      first = redis.call('ZCOUNT', CALLS, '(' .. started_at_ms, '+inf')
    else
      first = redis.call('ZCOUNT', CALLS, '-inf', '(' .. started_at_ms)
    end
    for _, uuid in ipairs(redis.call('ZRANGEBYSCORE', CALLS, started_at_ms, started_at_ms, 'LIMIT', 0, 1000)) do
      if (newest and uuid >= after_uuid) or (not newest and uuid <= after_uuid) then first = first + 1 end
    end
  end
end

local found = redis.call(range, CALLS, first, first + limit - 1, 'WITHSCORES')
local live, rows = {}, {}
for i = 1, #found, 2 do
  local key = call_key(found[i])
  local holder = redis.call('HMGET', key, 'dispatcher', 'worker')
  if holder[1] or holder[2] then
    local name = held_key(holder[1] or '', holder[2] or '')
    if live[name] == nil then live[name] = is_live(holder[1] or '', holder[2] or '') end
    if live[name] then rows[#rows + 1] = {found[i], redis.call('HMGET', key, unpack(ARGV, 5))} end
  end
end
local is_last = #found < 2 * limit
return {rows, is_last and '' or found[#found], is_last and '' or found[#found - 1], redis.call('ZCARD', CALLS)}
