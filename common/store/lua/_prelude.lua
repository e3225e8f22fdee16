-- The key schema, and the code that all scripts of this folder share: it is prepended to each of them.
--
-- Times are milliseconds since the epoch by the clock of Redis, so clients' clocks need not agree.
-- Needs Redis 6.2 or newer. Scripts build key names from ids: Redis Cluster is not supported.
-- PREFIX stands in front of this text when it is loaded; its value is in common/store/keys.py.
--
-- Leases (docs/adr/0014): a process holds one lease, and the records of its calls live as long as that lease.
--
-- avr-sts:2:dispatcher:{id}  STRING the lease of a dispatcher, ends by itself: `beat` once the dispatcher has had an
--                                  answer to a beat under this lease, else `new`
-- avr-sts:2:dispatchers      ZSET  dispatcher id -> when its lease ends; dispatchers whose calls are to be removed stay
-- avr-sts:2:dispatcher:{id}:calls  HASH  call uuid -> its worker: the calls that the dispatcher holds
-- avr-sts:2:dispatcher:{id}:checks HASH  call uuid -> epoch: another process has written the record of this call
-- avr-sts:2:worker:{id}      HASH  address, host, pid, release, release_order, capacity, state (ready, draining),
--                                  boot_id, problem (code with which the Realtime API refused the worker's key, or ''),
--                                  revision (of the record, by its worker); the lease of the worker, ends by itself
-- avr-sts:2:workers          ZSET  worker id -> when its lease ends
-- avr-sts:2:worker:{id}:calls  SET  call uuid: the slots in use
-- avr-sts:2:worker:{id}:waiting  HASH  call uuid -> its worker: calls that the worker holds until a dispatcher comes
-- avr-sts:2:departed         ZSET  worker id -> when it left; its waiting calls are to be removed
-- avr-sts:2:releases         ZSET  release_order -> release_order: releases with workers that accept calls
-- avr-sts:2:ready:{release_order}  ZSET  worker id -> load (`rank` below): workers that accept calls
-- avr-sts:2:table            ZSET  worker id -> version at which its record changed; workers that left stay a minute
-- avr-sts:2:loads            ZSET  worker id -> version at which its number of calls changed
-- avr-sts:2:left             ZSET  worker id -> when it left
-- avr-sts:2:calls            ZSET  call uuid -> started_at_ms: the index of all calls
-- avr-sts:2:call:{uuid}      HASH  worker ('': it has none any more), dispatcher ('': it is gone, and the
--                                  worker waits for another one), epoch, state, started_at_ms, pins, metadata
--                                  (JSON object), tenant (missing: there are no tenants, or the dispatcher is of an
--                                  earlier release). A record whose holder has no lease does not count, and is removed
-- avr-sts:2:said:{uuid}      HASH  the memory from which the call is restored if worker and dispatcher die:
--                                  profile (JSON), order (JSON array of item ids), item:{id} (JSON), version (of the
--                                  last write) and fields (their number, itself included); removed with the call
-- avr-sts:2:claim:{name}     STRING a name that one process has claimed: the HMAC of a caller who was transferred
--                                  when a call could not go on; ends after 5 minutes
-- avr-sts:2:recording:{uuid} STRING the recording of a call (JSON): paused, segments (host, file, from_seconds,
--                                  seconds); ends a minute after its dispatcher, or an hour after the call
-- avr-sts:2:recording-ask:{id}  LIST of requests to a dispatcher to pause recordings (JSON: uuid, whether to pause);
--                                  ends after 10 s
-- avr-sts:2:hang-up:{uuid}   STRING the dispatcher that holds the call is to hang it up; ends after 5 s
-- avr-sts:2:draft:{uuid}     STRING what the record of the call will say (JSON), for the case that its dispatcher
--                                  dies; ends after a day, or with the record
-- avr-sts:2:drafts           ZSET  call uuid -> when its draft was written
-- avr-sts:2:orphans          ZSET  call uuid -> when its record was removed: calls with a draft, and without a holder
--
-- Every beat of a process lets the indexes live another minute, so that an abandoned Redis empties itself. What a
-- process holds lives a minute longer than its lease, so that others find it when the lease has ended.
-- Unknown fields are left unchanged, and missing fields have defaults, because a release shares these keys with the
-- release before it, unless their prefixes differ. One dispatcher at a time writes the memory of a call; the next one writes it again in full.

local WORKERS, DISPATCHERS, DEPARTED = PREFIX .. 'workers', PREFIX .. 'dispatchers', PREFIX .. 'departed'
local TABLE, LOADS, LEFT, RELEASES = PREFIX .. 'table', PREFIX .. 'loads', PREFIX .. 'left', PREFIX .. 'releases'
local CALLS, DRAFTS, ORPHANS = PREFIX .. 'calls', PREFIX .. 'drafts', PREFIX .. 'orphans'

-- Time for which indexes outlive the last beat, and for which the table names workers that left.
local INDEX_MS = 60000
-- Time for which the record of a call outlives its lease if no process is there that removes it. A dispatcher writes
-- each record again within this time.
local RECORD_MS = 60000
-- Entries of a hash that one script handles, such as calls of a holder whose lease has ended.
local REMOVED = 100

local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_us = clock[1] * 1000000 + clock[2]

-- Lua would write large numbers with an exponent.
local function written(number) return string.format('%.0f', number) end
-- A lease that ends now has expired, as with Redis' own expiry.
local function after(number) return '(' .. written(number) end

local function dispatcher_key(id) return PREFIX .. 'dispatcher:' .. id end
local function checks_key(id) return PREFIX .. 'dispatcher:' .. id .. ':checks' end
local function worker_key(id) return PREFIX .. 'worker:' .. id end
local function slots_key(id) return PREFIX .. 'worker:' .. id .. ':calls' end
local function ready_key(order) return PREFIX .. 'ready:' .. order end
local function call_key(uuid) return PREFIX .. 'call:' .. uuid end
local function said_key(uuid) return PREFIX .. 'said:' .. uuid end

-- The calls of a holder: of the dispatcher, or of the worker that waits for one.
local function held_key(dispatcher, worker)
  return dispatcher ~= '' and dispatcher_key(dispatcher) .. ':calls' or worker_key(worker) .. ':waiting'
end

local function is_live(dispatcher, worker)
  return redis.call('EXISTS', dispatcher ~= '' and dispatcher_key(dispatcher) or worker_key(worker)) == 1
end

-- Extends the lease of a dispatcher, also of one that has not beaten yet.
local function extend_lease(dispatcher, lease_ms)
  local key = dispatcher_key(dispatcher)
  if not redis.call('SET', key, 'new', 'PX', lease_ms, 'NX') and redis.call('PTTL', key) < lease_ms then
    redis.call('PEXPIRE', key, lease_ms)
  end
  redis.call('ZADD', DISPATCHERS, 'GT', written(now_ms + lease_ms), dispatcher)
end

-- Workers whose loads have changed in this script; see `settle`.
local changed = {}

local function add_slot(worker, uuid)
  if worker ~= '' and redis.call('SADD', slots_key(worker), uuid) == 1 then
    redis.call('PEXPIRE', slots_key(worker), INDEX_MS)
    changed[worker] = true
  end
end

local function free_slot(worker, uuid)
  if worker and worker ~= '' and redis.call('SREM', slots_key(worker), uuid) == 1 then changed[worker] = true end
end

-- The order of workers within a release: the lowest load relative to the capacity, then the fewest calls, then the
-- worker whose load changed longest ago. Steps of 1/100,000 of the capacity, 13 bits of calls, 12 bits of milliseconds.
local function rank(calls, capacity)
  local ratio = capacity > 0 and math.min(calls / capacity, 1000) or 1000
  return written((math.floor(ratio * 100000) * 8192 + math.min(calls, 8191)) * 4096 + math.floor(now_us / 1000) % 4096)
end

-- Makes the changed loads known to pins and to dispatchers.
local function settle()
  for id in pairs(changed) do
    local worker = redis.call('HMGET', worker_key(id), 'state', 'capacity', 'release_order')
    if worker[1] then redis.call('ZADD', LOADS, written(now_us), id) end
    if worker[1] == 'ready' then
      local load = rank(redis.call('SCARD', slots_key(id)), tonumber(worker[2]) or 0)
      redis.call('ZADD', ready_key(worker[3] or 0), 'XX', load, id)
    end
  end
end

-- Removes the record of a call, and all that belongs to it but its draft.
local function remove_call(uuid, worker, dispatcher)
  redis.call('DEL', call_key(uuid), said_key(uuid))
  redis.call('ZREM', CALLS, uuid)
  redis.call('HDEL', held_key(dispatcher, worker), uuid)
  free_slot(worker, uuid)
  if redis.call('ZSCORE', DRAFTS, uuid) then
    redis.call('ZADD', ORPHANS, written(now_ms), uuid)
    redis.call('EXPIRE', ORPHANS, 86400)
  end
end

local RECORD = {'worker', 'dispatcher', 'epoch', 'state', 'pins', 'started_at_ms', 'tenant'}

-- Returns the record of a call as a table; nil if there is none. A record whose holder has no lease is removed.
local function held_call(uuid)
  local values = redis.call('HMGET', call_key(uuid), unpack(RECORD))
  if not values[3] then return nil end
  local held = {}
  for i, name in ipairs(RECORD) do held[name] = values[i] or nil end
  held.worker, held.dispatcher, held.epoch = held.worker or '', held.dispatcher or '', tonumber(held.epoch) or 0
  if is_live(held.dispatcher, held.worker) then return held end
  remove_call(uuid, held.worker, held.dispatcher)
  return nil
end

-- Writes who has a call. `held` is its record so far, or nil.
local function hold_call(uuid, held, worker, dispatcher, lease_ms, started_at_ms)
  if held and held.dispatcher ~= '' and held.dispatcher ~= dispatcher then
    redis.call('HSET', checks_key(held.dispatcher), uuid, held.epoch)
    redis.call('PEXPIRE', checks_key(held.dispatcher), redis.call('PTTL', dispatcher_key(held.dispatcher)) + INDEX_MS)
  end
  if held and (held.dispatcher ~= dispatcher or (dispatcher == '' and held.worker ~= worker)) then
    redis.call('HDEL', held_key(held.dispatcher, held.worker), uuid)
  end
  if held and held.worker ~= worker then free_slot(held.worker, uuid) end
  add_slot(worker, uuid)
  redis.call('HSET', held_key(dispatcher, worker), uuid, worker)
  redis.call('PEXPIRE', held_key(dispatcher, worker), lease_ms + INDEX_MS)
  redis.call('ZADD', CALLS, started_at_ms, uuid)
  redis.call('PEXPIRE', call_key(uuid), lease_ms + RECORD_MS)
  redis.call('PEXPIRE', said_key(uuid), lease_ms + RECORD_MS)
  if not held then
    redis.call('PEXPIRE', CALLS, INDEX_MS)
    redis.call('ZREM', ORPHANS, uuid)
  end
end

-- Gives the record of a worker a new version.
local function change_record(id)
  local last = redis.call('ZREVRANGE', TABLE, 0, 0, 'WITHSCORES')[2]
  -- Versions grow, also after a failover to a replica that lacks the latest: its clock is about the same.
  redis.call('ZADD', TABLE, written(math.max(now_us, (tonumber(last) or 0) + 1)), id)
end

-- Takes a worker whose lease has ended out of the table. Its slots stay: dispatchers move these calls.
local function remove_worker(id)
  redis.call('ZREM', WORKERS, id)
  redis.call('DEL', worker_key(id))
  for _, order in ipairs(redis.call('ZRANGE', RELEASES, 0, -1)) do
    redis.call('ZREM', ready_key(order), id)
    if redis.call('EXISTS', ready_key(order)) == 0 then redis.call('ZREM', RELEASES, order) end
  end
  redis.call('ZREM', LOADS, id)
  redis.call('ZADD', LEFT, written(now_ms), id)
  change_record(id)
  if redis.call('EXISTS', held_key('', id)) == 1 then redis.call('ZADD', DEPARTED, written(now_ms), id) end
end

-- Returns some entries of a hash as {field, value, ...}. The embedded Redis answers nil for a hash that is not there.
local function some_of(key) return redis.call('HRANDFIELD', key, REMOVED, 'WITHVALUES') or {} end

-- Removes some calls of a holder whose lease has ended; returns whether all are removed.
local function remove_calls(dispatcher, worker)
  local key = held_key(dispatcher, worker)
  local calls = some_of(key)
  for i = 1, #calls, 2 do
    local uuid = calls[i]
    local held = redis.call('HMGET', call_key(uuid), 'dispatcher', 'worker')
    if not held[1] and not held[2] then
      -- The record ended by itself, because no process was there to remove it.
      remove_call(uuid, calls[i + 1], dispatcher)
    elseif (held[1] or '') == dispatcher and (dispatcher ~= '' or held[2] == worker) then
      remove_call(uuid, held[2] or '', dispatcher)
    else
      redis.call('HDEL', key, uuid)
    end
  end
  return redis.call('EXISTS', key) == 0
end

-- Removes what processes left whose leases have ended; a bounded part of it, as each beat does this.
local function sweep()
  local ended = redis.call('ZRANGEBYSCORE', WORKERS, '-inf', written(now_ms), 'LIMIT', 0, 10)
  for _, id in ipairs(ended) do remove_worker(id) end
  local worker = redis.call('ZRANGE', DEPARTED, 0, 0)[1]
  if worker and (is_live('', worker) or remove_calls('', worker)) then redis.call('ZREM', DEPARTED, worker) end
  local dispatcher = redis.call('ZRANGEBYSCORE', DISPATCHERS, '-inf', written(now_ms), 'LIMIT', 0, 1)[1]
  if dispatcher and not is_live(dispatcher) and remove_calls(dispatcher) then
    redis.call('ZREM', DISPATCHERS, dispatcher)
    redis.call('DEL', checks_key(dispatcher))
  end
  local left = redis.call('ZRANGEBYSCORE', LEFT, '-inf', written(now_ms - INDEX_MS), 'LIMIT', 0, 10)
  for _, id in ipairs(left) do
    redis.call('ZREM', LEFT, id)
    if not is_live('', id) then redis.call('ZREM', TABLE, id) end
  end
end

-- Lets the indexes outlive this beat. Without any process, nothing is left that the table could tell.
local function keep_indexes()
  local lasting = {WORKERS, DISPATCHERS, DEPARTED, TABLE, LOADS, LEFT, RELEASES, CALLS}
  if redis.call('EXISTS', WORKERS, DISPATCHERS) == 0 then
    redis.call('DEL', TABLE, LOADS, LEFT)
  else
    for _, key in ipairs(lasting) do redis.call('PEXPIRE', key, INDEX_MS) end
  end
end

-- Rows behind a version; `row` makes one of a worker's id. Returns the version that the rows reach, the rows, and
-- whether there are more (1 or 0).
local function rows_since(key, version, limit, row)
  local found = redis.call('ZRANGEBYSCORE', key, '(' .. version, '+inf', 'WITHSCORES', 'LIMIT', 0, limit + 1)
  local last, has_more = #found, #found > 2 * limit
  if has_more and found[2] ~= found[last] then
    -- Rows of one version belong together.
    while found[last] == found[#found] do last = last - 2 end
  end
  local rows = {}
  for i = 1, last, 2 do rows[#rows + 1] = row(found[i]) end
  return {last > 0 and found[last] or version, rows, has_more and 1 or 0}
end

local function record_row(id)
  return {id, redis.call('SCARD', slots_key(id)), redis.call('HGETALL', worker_key(id))}
end

local function load_row(id) return {id, redis.call('SCARD', slots_key(id))} end
