-- The key schema of call records, and the code that all scripts of this folder share: it is prepended to each of them.
--
-- Times are milliseconds since the epoch. `ended_ms` is the end of a call by its dispatcher's clock; all others are by
-- the clock of Redis. Needs Redis 6.2 or newer. PREFIX stands in front of this text when it is loaded.
--
-- avr-sts:2:records:record:{id}   HASH  body (JSON, the bytes that the first writer gave), uuid, selectors (of an
--                                    erasure, with spaces between them), waits (sinks, with commas between them),
--                                    owner (process that delivers it), ended_ms, since_ms (first attempt), reason (of
--                                    a dead record)
-- avr-sts:2:records:call:{uuid}   SET   ids of the call's records
-- avr-sts:2:records:pending       ZSET  id -> ended_ms: records that wait for a sink
-- avr-sts:2:records:claims        ZSET  id -> when the claim of its owner ends: then any process may deliver it
-- avr-sts:2:records:dead          ZSET  id -> ended_ms: records that no sink took for a day
-- avr-sts:2:records:kept          ZSET  id -> ended_ms: records for the calls API
-- avr-sts:2:records:dead_until    ZSET  id -> when a dead record ends
-- avr-sts:2:records:kept_until    ZSET  id -> when a kept record ends
-- avr-sts:2:records:sizes         HASH  id -> bytes, and bytes is their sum: the bound is checked against it
-- avr-sts:2:records:bytes         STRING
-- avr-sts:2:records:gone:{id}     STRING delivered, or erased: no process writes this record again
-- avr-sts:2:records:erasures      ZSET  selector -> time of the erasure: records that processes hold are erased, too
--
-- A record is stored once, as long as it is pending, dead or kept. Every key ends by itself if nobody touches it.

local PENDING, CLAIMS, DEAD, KEPT = PREFIX .. 'pending', PREFIX .. 'claims', PREFIX .. 'dead', PREFIX .. 'kept'
local DEAD_UNTIL, KEPT_UNTIL = PREFIX .. 'dead_until', PREFIX .. 'kept_until'
local SIZES, BYTES, ERASURES = PREFIX .. 'sizes', PREFIX .. 'bytes', PREFIX .. 'erasures'

local HOUR_MS = 3600 * 1000
local DAY_MS = 24 * HOUR_MS
-- A pending record is delivered or dead after a day; the rest is for processes that stalled.
local PENDING_MS = 2 * DAY_MS
local DEAD_MS = 7 * DAY_MS
local MOST_DEAD = 1000
local DELIVERED_MS = HOUR_MS / 4
local ERASED_MS = 2 * DAY_MS
local MOST_ERASURES = 1000
-- Of Redis for a record, beside its body.
local OVERHEAD_BYTES = 1024

local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function record_key(id) return PREFIX .. 'record:' .. id end
local function call_key(uuid) return PREFIX .. 'call:' .. uuid end
local function gone_key(id) return PREFIX .. 'gone:' .. id end

-- Lets a key live for `ms` at least.
local function touch(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, string.format('%.0f', ms)) end
end

local function index(key, score, id, ms)
  redis.call('ZADD', key, string.format('%.0f', score), id)
  touch(key, ms)
end

local function has(key, id) return redis.call('ZSCORE', key, id) ~= false end

-- Deletes a record wherever it is.
local function forget(id)
  local size = redis.call('HGET', SIZES, id)
  if size then
    redis.call('HDEL', SIZES, id)
    redis.call('DECRBY', BYTES, size)
  end
  local uuid = redis.call('HGET', record_key(id), 'uuid')
  if uuid then redis.call('SREM', call_key(uuid), id) end
  redis.call('DEL', record_key(id))
  for _, key in ipairs({PENDING, CLAIMS, DEAD, KEPT, DEAD_UNTIL, KEPT_UNTIL}) do redis.call('ZREM', key, id) end
end

-- Deletes a record that is in no index any more.
local function forget_unused(id)
  if not (has(PENDING, id) or has(DEAD, id) or has(KEPT, id)) then forget(id) end
end

local function take_out(id, key, until_key)
  redis.call('ZREM', key, id)
  redis.call('ZREM', until_key, id)
  forget_unused(id)
end

local function claim_is_live(id)
  local ends = redis.call('ZSCORE', CLAIMS, id)
  return ends and tonumber(ends) > now_ms
end

local function mark_gone(id, reason, ms) redis.call('SET', gone_key(id), reason, 'PX', string.format('%.0f', ms)) end

local function is_erased(selectors, ended_ms)
  for selector in string.gmatch(selectors, '%S+') do
    local erased = redis.call('ZSCORE', ERASURES, selector)
    if erased and tonumber(erased) >= ended_ms then return true end
  end
  return false
end

-- Makes a pending record dead. Returns the number of dead records that were dropped at their bound.
local function bury(id, ended_ms, reason)
  redis.call('ZREM', PENDING, id)
  redis.call('ZREM', CLAIMS, id)
  redis.call('HSET', record_key(id), 'reason', reason)
  touch(record_key(id), DEAD_MS)
  index(DEAD, ended_ms, id, DEAD_MS)
  index(DEAD_UNTIL, now_ms + DEAD_MS, id, DEAD_MS)
  local dropped = 0
  while redis.call('ZCARD', DEAD) > MOST_DEAD do
    take_out(redis.call('ZRANGE', DEAD, 0, 0)[1], DEAD, DEAD_UNTIL)
    dropped = dropped + 1
  end
  return dropped
end
