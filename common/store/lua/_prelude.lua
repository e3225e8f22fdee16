-- The key schema, and the code that all scripts of this folder share: it is prepended to each of them.
--
-- Times are milliseconds since the epoch by the clock of Redis, so clients' clocks need not agree.
-- Needs Redis 6.2 or newer. Scripts build key names from ids: Redis Cluster is not supported.
-- PREFIX stands in front of this text when it is loaded; its value is in common/store/keys.py.
--
-- avr-sts:2:workers          ZSET  worker id -> when its lease ends
-- avr-sts:2:worker:{id}      HASH  address, host, pid, release, release_order, capacity, state (ready, draining),
--                                  boot_id, problem (code with which the Realtime API refused the worker's key, or '');
--                                  ends with the worker's lease
-- avr-sts:2:worker:{id}:calls  ZSET  call uuid -> when its lease ends: the slots in use. The slot of a call whose
--                                  dispatcher died ends with its lease
-- avr-sts:2:calls            ZSET  call uuid -> when its lease ends: the index of all calls
-- avr-sts:2:call:{uuid}      HASH  worker ('': it has none any more), dispatcher ('': it is gone, and the
--                                  worker waits for another one), epoch, state, started_at_ms, pins, metadata
--                                  (JSON object), tenant (missing: there are no tenants, or the dispatcher is of an
--                                  earlier release); ends with the call's lease
-- avr-sts:2:said:{uuid}      HASH  the memory from which the call is restored if worker and dispatcher die:
--                                  profile (JSON), order (JSON array of item ids), item:{id} (JSON), version (of the
--                                  last write) and fields (their number, itself included); ends with the call
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
--
-- Unknown fields are left unchanged, and missing fields have defaults, because a release shares these keys with the
-- release before it, unless their prefixes differ. One dispatcher at a time writes the memory of a call; the next one writes it again in full.

local WORKERS = PREFIX .. 'workers'
local CALLS = PREFIX .. 'calls'

local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- An exclusive bound: a lease that ends now has expired, as with Redis' own expiry.
local after_now = string.format('(%.0f', now_ms)

local function worker_key(id) return PREFIX .. 'worker:' .. id end
local function slots_key(id) return PREFIX .. 'worker:' .. id .. ':calls' end
local function call_key(uuid) return PREFIX .. 'call:' .. uuid end
local function said_key(uuid) return PREFIX .. 'said:' .. uuid end

local function live_workers() return redis.call('ZRANGEBYSCORE', WORKERS, after_now, '+inf') end
local function load_of(id) return redis.call('ZCOUNT', slots_key(id), after_now, '+inf') end

-- Adds leased members (score, member, ...) to a ZSET, drops expired ones and lets the key outlive the rest.
-- PEXPIRE's own GT would need Redis 7.
local function add_leases(key, lease_ms, members)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now_ms)
  redis.call('ZADD', key, unpack(members))
  if redis.call('PTTL', key) < lease_ms then redis.call('PEXPIRE', key, lease_ms) end
end

-- Every live worker as {id, calls, {field, value, ...}}.
local function worker_table()
  local rows = {}
  for _, id in ipairs(live_workers()) do
    rows[#rows + 1] = {id, load_of(id), redis.call('HGETALL', worker_key(id))}
  end
  return rows
end
