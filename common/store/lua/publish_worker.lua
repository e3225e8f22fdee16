-- A worker's beat. Keys: all (schema: _prelude.lua).
-- ARGV: id, lease_ms, revision of its record, then field, value, ... of the record, or nothing if this Redis should
-- have that revision. Returns 1, or 0 if it has not: then nothing was changed.
local id, lease_ms, revision = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local key = worker_key(id)

if ARGV[4] then
  local former = redis.call('HGET', key, 'release_order')
  redis.call('HSET', key, 'revision', revision, unpack(ARGV, 4))
  if former and former ~= redis.call('HGET', key, 'release_order') then redis.call('ZREM', ready_key(former), id) end
  redis.call('ZREM', LEFT, id)
  change_record(id)
elseif redis.call('HGET', key, 'revision') ~= revision then
  return 0
end
redis.call('PEXPIRE', key, lease_ms)
redis.call('ZADD', WORKERS, written(now_ms + lease_ms), id)
redis.call('PEXPIRE', slots_key(id), INDEX_MS)
redis.call('PEXPIRE', held_key('', id), INDEX_MS)

local worker = redis.call('HMGET', key, 'state', 'capacity', 'release_order')
local order = worker[3] or 0
if worker[1] == 'ready' then
  if ARGV[4] or not redis.call('ZSCORE', ready_key(order), id) then
    local load = rank(redis.call('SCARD', slots_key(id)), tonumber(worker[2]) or 0)
    redis.call('ZADD', ready_key(order), load, id)
    redis.call('ZADD', RELEASES, order, order)
  end
  redis.call('PEXPIRE', ready_key(order), INDEX_MS)
else
  redis.call('ZREM', ready_key(order), id)
end
sweep()
settle()
keep_indexes()
return 1
