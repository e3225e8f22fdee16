-- Gives a call to a worker in one atomic step. Keys: all (schema: _prelude.lua).
-- ARGV: uuid, dispatcher, epoch, state, metadata, lease_ms, over_capacity, attach (1 or 0), known_epoch (or ''), then
-- ids of excluded workers. With attach, a live worker that holds the call keeps it. With known_epoch, a call that
-- another dispatcher has at a higher epoch stays there.
-- Returns {worker, address, epoch, pins, started_at_ms, attached, age_ms}, or 'no_workers', 'full' or 'superseded',
-- which change nothing.
local uuid, dispatcher, asked_epoch, state, metadata = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local lease_ms, over_capacity, attach = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1'
local known_epoch = tonumber(ARGV[9])
local excluded = {}
for i = 10, #ARGV do excluded[ARGV[i]] = true end

local held = redis.call('HMGET', call_key(uuid), 'worker', 'epoch', 'pins', 'started_at_ms', 'dispatcher')
local holder = held[1]
-- A call without a dispatcher ('') belongs to whichever dispatcher asks for it.
local is_elsewhere = held[5] and held[5] ~= '' and held[5] ~= dispatcher
if known_epoch and is_elsewhere and (tonumber(held[2]) or 0) > known_epoch then return 'superseded' end
local holder_counts_it = false
if holder then
  local slot_ends = redis.call('ZSCORE', slots_key(holder), uuid)
  holder_counts_it = slot_ends and tonumber(slot_ends) > now_ms
end

-- Workers below their capacity come first, then the newest release, then the lowest load relative to the capacity,
-- then the fewest calls.
local function rank(a, b)
  if a.has_room ~= b.has_room then return a.has_room and 1 or -1 end
  if a.release_order ~= b.release_order then return a.release_order > b.release_order and 1 or -1 end
  if a.ratio ~= b.ratio then return a.ratio < b.ratio and 1 or -1 end
  if a.calls ~= b.calls then return a.calls < b.calls and 1 or -1 end
  return 0
end

local attached = attach and holder and not excluded[holder] and redis.call('HGET', worker_key(holder), 'address')

local refusal = 'no_workers'
local best = {}
for _, id in ipairs(attached and {} or live_workers()) do
  local worker = redis.call('HMGET', worker_key(id), 'address', 'state', 'capacity', 'release_order')
  if worker[1] and worker[2] == 'ready' and not excluded[id] then
    refusal = 'full'
    local calls, capacity = load_of(id), tonumber(worker[3]) or 0
    if id == holder and holder_counts_it then calls = calls - 1 end
    if calls < capacity * over_capacity then
      local candidate = {
        id = id, address = worker[1], calls = calls, ratio = calls / capacity, has_room = calls < capacity,
        release_order = tonumber(worker[4]) or 0,
      }
      local order = best[1] and rank(candidate, best[1]) or 1
      if order > 0 then best = {} end
      if order >= 0 then best[#best + 1] = candidate end
    end
  end
end
if attached then best = {{id = holder, address = attached}} end
if not best[1] then return refusal end

-- Among equals the clock's microseconds choose: Redis before 7 seeds math.random alike in every run.
local chosen = best[clock[2] % #best + 1]
local epoch = math.max((tonumber(held[2]) or 0) + 1, asked_epoch)
local pins = (tonumber(held[3]) or 0) + (attached and 0 or 1)
local started_at_ms = tonumber(held[4]) or now_ms
local lease_ends = now_ms + lease_ms

if holder then redis.call('ZREM', slots_key(holder), uuid) end
redis.call('HSET', call_key(uuid), 'worker', chosen.id, 'dispatcher', dispatcher, 'epoch', epoch, 'state', state,
  'started_at_ms', started_at_ms, 'pins', pins, 'metadata', metadata)
redis.call('PEXPIREAT', call_key(uuid), lease_ends)
add_leases(slots_key(chosen.id), lease_ms, {lease_ends, uuid})
add_leases(CALLS, lease_ms, {lease_ends, uuid})
return {chosen.id, chosen.address, epoch, pins, started_at_ms, attached and 1 or 0, now_ms - started_at_ms}
