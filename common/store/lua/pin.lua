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

local held = held_call(uuid)
-- A call without a dispatcher ('') belongs to whichever dispatcher asks for it.
local is_elsewhere = held and held.dispatcher ~= '' and held.dispatcher ~= dispatcher
if known_epoch and is_elsewhere and held.epoch > known_epoch then return 'superseded' end
local holder = held and held.worker ~= '' and held.worker or nil

-- Returns a worker as a candidate; nil if it does not accept calls, and its address if it lives.
local function candidate(id)
  local worker = redis.call('HMGET', worker_key(id), 'address', 'state', 'capacity', 'release_order')
  if not worker[1] or worker[2] ~= 'ready' then return nil, worker[1] end
  local calls, capacity = redis.call('SCARD', slots_key(id)), tonumber(worker[3]) or 0
  if id == holder and redis.call('SISMEMBER', slots_key(id), uuid) == 1 then calls = calls - 1 end
  return {
    id = id, address = worker[1], calls = calls, ratio = calls / capacity, has_room = calls < capacity,
    fits = calls < capacity * over_capacity, release_order = tonumber(worker[4]) or 0,
  }, worker[1]
end

-- Returns the first worker of a release, by `rank`. The holder is not looked for: its own slot is part of its load.
local function first_of(order)
  local skipped = 0
  while true do
    local found = redis.call('ZRANGE', ready_key(order), skipped, skipped + 1)
    if not found[1] then return nil end
    for _, id in ipairs(found) do
      if excluded[id] or id == holder then
        skipped = skipped + 1
      else
        local worker = candidate(id)
        if worker then return worker end
        -- Its lease has ended. Its next beat puts it back.
        redis.call('ZREM', ready_key(order), id)
      end
    end
  end
end

-- Workers below their capacity come first, then the newest release, then the lowest load relative to the capacity,
-- then the fewest calls.
local function is_better(a, b)
  if a.has_room ~= b.has_room then return a.has_room end
  if a.release_order ~= b.release_order then return a.release_order > b.release_order end
  if a.ratio ~= b.ratio then return a.ratio < b.ratio end
  return a.calls < b.calls
end

local attached = attach and holder and not excluded[holder] and select(2, candidate(holder))
local refusal, best = 'no_workers', nil
local function consider(worker)
  if not worker then return end
  refusal = 'full'
  if worker.fits and (not best or is_better(worker, best)) then best = worker end
end
local function choose()
  for _, order in ipairs(redis.call('ZREVRANGE', RELEASES, 0, -1)) do
    consider(first_of(order))
    -- Older releases are asked only if this one is full.
    if best and best.has_room then break end
  end
  if holder and not excluded[holder] then consider((candidate(holder))) end
end
if attached then
  best = {id = holder, address = attached}
else
  choose()
  if refusal == 'full' and not best then
    -- Calls of a dispatcher that died may hold slots yet.
    sweep()
    settle()
    choose()
  end
end
if not best then
  settle()
  return refusal
end

local epoch = math.max((held and held.epoch or 0) + 1, asked_epoch)
local pins = (held and tonumber(held.pins) or 0) + (attached and 0 or 1)
local started_at_ms = held and tonumber(held.started_at_ms) or now_ms

extend_lease(dispatcher, lease_ms)
redis.call('HSET', call_key(uuid), 'worker', best.id, 'dispatcher', dispatcher, 'epoch', epoch, 'state', state,
  'started_at_ms', written(started_at_ms), 'pins', pins, 'metadata', metadata)
hold_call(uuid, held, best.id, dispatcher, lease_ms, written(started_at_ms))
redis.call('HDEL', checks_key(dispatcher), uuid)
settle()
return {best.id, best.address, epoch, pins, started_at_ms, attached and 1 or 0, now_ms - started_at_ms}
