-- Stores records. The first bytes of an id stay. Keys: all (schema: _prelude.lua).
-- ARGV: process, lease_ms, keep_ms (0: not kept), max_bytes, then per record: id, uuid, selectors, waits ('': nobody),
-- ended_ms, age_ms, reason ('': not dead), body.
-- Returns {reply, ...}, dropped records, kept records that were evicted. A reply is: ok; taken (another process has this
-- id); delivered or erased (nothing is left to do); full (older than all that is stored, and there is no room).
local process, lease_ms, keep_ms, max_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local dropped, evicted = 0, 0

local function total() return tonumber(redis.call('GET', BYTES)) or 0 end

-- Kept records go first, then dead ones, then pending ones; of each the oldest first.
local function make_room(size, ended_ms)
  if size > max_bytes then return false end
  while total() + size > max_bytes do
    local kept = redis.call('ZRANGE', KEPT, 0, 0)[1]
    local dead = redis.call('ZRANGE', DEAD, 0, 0)[1]
    local pending = redis.call('ZRANGE', PENDING, 0, 0, 'WITHSCORES')
    if kept then
      take_out(kept, KEPT, KEPT_UNTIL)
      evicted = evicted + 1
    elseif dead then
      take_out(dead, DEAD, DEAD_UNTIL)
      dropped = dropped + 1
    elseif pending[1] then
      if tonumber(pending[2]) > ended_ms then return false end
      -- The owner of a live claim holds the record, and delivers it all the same.
      if not claim_is_live(pending[1]) then dropped = dropped + 1 end
      forget(pending[1])
    else
      -- The indexes have ended by themselves, and with them all that was counted.
      redis.call('DEL', SIZES, BYTES)
    end
  end
  return true
end

local function add(id, uuid, selectors, waits, ended_ms, age_ms, reason, body)
  local gone = redis.call('GET', gone_key(id))
  if gone then return gone end
  if is_erased(selectors, ended_ms) then return 'erased' end
  local stored = redis.call('HMGET', record_key(id), 'body', 'owner')
  local is_new = not stored[1]
  if not is_new and (stored[1] ~= body or (stored[2] ~= process and claim_is_live(id))) then return 'taken' end
  if not is_new and has(DEAD, id) then return 'taken' end
  if is_new then
    local size = #body + OVERHEAD_BYTES
    if not make_room(size, ended_ms) then return 'full' end
    redis.call('HSET', record_key(id), 'body', body, 'uuid', uuid, 'selectors', selectors,
      'ended_ms', string.format('%.0f', ended_ms), 'since_ms', string.format('%.0f', now_ms - age_ms))
    redis.call('HSET', SIZES, id, size)
    redis.call('INCRBY', BYTES, size)
    redis.call('SADD', call_key(uuid), id)
    if keep_ms > 0 then
      index(KEPT, ended_ms, id, keep_ms)
      index(KEPT_UNTIL, ended_ms + keep_ms, id, keep_ms)
    end
  end
  redis.call('HSET', record_key(id), 'waits', waits, 'owner', process)
  if reason ~= '' then
    dropped = dropped + bury(id, ended_ms, reason)
  elseif waits ~= '' then
    index(PENDING, ended_ms, id, PENDING_MS)
    index(CLAIMS, now_ms + lease_ms, id, PENDING_MS)
  else
    redis.call('ZREM', PENDING, id)
    redis.call('ZREM', CLAIMS, id)
    mark_gone(id, 'delivered', DELIVERED_MS)
  end
  local lives_ms = math.max(PENDING_MS, reason ~= '' and DEAD_MS or 0, keep_ms)
  for _, key in ipairs({record_key(id), call_key(uuid), SIZES, BYTES}) do touch(key, lives_ms) end
  forget_unused(id)
  return 'ok'
end

local replies = {}
for i = 5, #ARGV, 8 do
  local id, uuid, selectors, waits, ended_ms, age_ms, reason, body = unpack(ARGV, i, i + 7)
  replies[#replies + 1] = add(id, uuid, selectors, waits, tonumber(ended_ms), tonumber(age_ms), reason, body)
end
return {replies, dropped, evicted}
