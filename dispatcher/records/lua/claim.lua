-- Gives a process records whose owner no longer renews its claim. Keys: all (schema: _prelude.lua).
-- ARGV: process, lease_ms, most records, most bytes, give_up_ms (age at which a record is dead), then the sinks that the
-- process has: a record that waits for another sink stays.
-- Returns {{id, uuid, selectors, waits, ended_ms, age_ms, body}, ...}, number of records that are dead now.
local process, lease_ms, most, most_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local give_up_ms = tonumber(ARGV[5])
local sinks = {}
for i = 6, #ARGV do sinks[ARGV[i]] = true end

local function has_sinks(waits)
  for sink in string.gmatch(waits, '[^,]+') do
    if not sinks[sink] then return false end
  end
  return true
end

local claimed, bytes, dead, dropped = {}, 0, 0, 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', CLAIMS, '-inf', string.format('%.0f', now_ms), 'LIMIT', 0, 1000)) do
  local record = redis.call('HMGET', record_key(id), 'body', 'uuid', 'selectors', 'waits', 'since_ms')
  local ended_ms = redis.call('ZSCORE', PENDING, id)
  if not record[1] or not ended_ms then
    forget(id)
  elseif now_ms - tonumber(record[5]) > give_up_ms then
    dropped = dropped + bury(id, tonumber(ended_ms), 'too old')
    dead = dead + 1
  elseif has_sinks(record[4]) then
    if #claimed >= most or bytes + #record[1] > most_bytes then break end
    bytes = bytes + #record[1]
    redis.call('HSET', record_key(id), 'owner', process)
    index(CLAIMS, now_ms + lease_ms, id, PENDING_MS)
    claimed[#claimed + 1] = {
      id, record[2], record[3], record[4], string.format('%.0f', ended_ms),
      string.format('%.0f', now_ms - record[5]), record[1],
    }
  end
end
return {claimed, dead, dropped}
