-- Renews the leases of a process's calls, whether Redis still knows them or not.
-- Keys: all (schema: _prelude.lua).
-- ARGV: dispatcher, or '' (a worker, for calls whose dispatcher is gone; a dispatcher of the call takes precedence),
-- lease_ms, with_table (1 or 0), then per call: uuid, worker, epoch, state, started_at_ms (or ''),
-- pins, metadata, version of the memory (or ''), tenant (or '': the stored one stays). Returns {{superseded uuid, ...}, worker table or {}, {uuid, ...}};
-- the last are calls that were unknown, or whose last write of the memory is lost.
local dispatcher, lease_ms, with_table = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local lease_ends = now_ms + lease_ms
local superseded, index, slots, forgotten = {}, {}, {}, {}

local function append(members, uuid)
  members[#members + 1] = lease_ends
  members[#members + 1] = uuid
end

-- After a failover a replica may lack the latest writes.
local function has_all(uuid, version)
  local stored = redis.call('HMGET', said_key(uuid), 'version', 'fields')
  return stored[1] == version and tonumber(stored[2]) == redis.call('HLEN', said_key(uuid))
end

for i = 4, #ARGV, 9 do
  local uuid, worker, epoch, state, started_at_ms, pins, metadata, version, tenant = unpack(ARGV, i, i + 8)
  epoch = tonumber(epoch)
  local held = redis.call('HMGET', call_key(uuid), 'epoch', 'dispatcher', 'worker', 'state', 'pins', 'started_at_ms',
    'tenant')
  local held_epoch = tonumber(held[1]) or 0
  local waits = held_epoch == epoch and held[2] == ''
  local is_held = held_epoch >= epoch and held[2] ~= dispatcher and not waits
  if is_held and dispatcher == '' and (held_epoch == epoch or held[3] == worker) then
    -- By the dispatcher that is gone, or by a dispatcher that is about to tell this worker.
  elseif is_held then
    -- Equal epochs of two dispatchers come from an outage, in which neither could see the other. The dispatcher that
    -- the record names keeps the call.
    superseded[#superseded + 1] = uuid
  elseif held_epoch <= epoch then
    if held_epoch ~= epoch or held[2] ~= dispatcher or held[3] ~= worker or held[4] ~= state then
      if held[3] and held[3] ~= worker then redis.call('ZREM', slots_key(held[3]), uuid) end
      redis.call('HSET', call_key(uuid), 'worker', worker, 'dispatcher', dispatcher, 'epoch', epoch, 'state', state,
        'started_at_ms', held[6] or (started_at_ms ~= '' and started_at_ms) or now_ms,
        'pins', math.max(tonumber(held[5]) or 0, tonumber(pins)), 'metadata', metadata)
    end
    if tenant ~= '' and held[7] ~= tenant then redis.call('HSET', call_key(uuid), 'tenant', tenant) end
    if not held[1] or (version ~= '' and not has_all(uuid, version)) then forgotten[#forgotten + 1] = uuid end
    redis.call('PEXPIREAT', call_key(uuid), lease_ends)
    redis.call('PEXPIREAT', said_key(uuid), lease_ends)
    append(index, uuid)
    -- A call that takes the way out has no worker any more, and holds no slot.
    if worker ~= '' then
      slots[worker] = slots[worker] or {}
      append(slots[worker], uuid)
    end
  end
  -- Otherwise this dispatcher has pinned the call since it composed this renewal: the record is newer.
end

if index[1] then add_leases(CALLS, lease_ms, index) end
for worker, members in pairs(slots) do add_leases(slots_key(worker), lease_ms, members) end
return {superseded, with_table and worker_table() or {}, forgotten}
