-- Writes the records of a process's calls, whether Redis still knows them or not.
-- Keys: all (schema: _prelude.lua).
-- ARGV: dispatcher, or '' (a worker, for calls whose dispatcher is gone; a dispatcher of the call takes precedence),
-- lease_ms, then per call: uuid, worker, epoch, state, started_at_ms (or ''),
-- pins, metadata, version of the memory (or ''), tenant (or '': the stored one stays). Returns {{superseded uuid, ...},
-- {uuid, ...}}; the last are calls that were unknown, or whose last write of the memory is lost.
local dispatcher, lease_ms = ARGV[1], tonumber(ARGV[2])
local superseded, forgotten = {}, {}

-- After a failover a replica may lack the latest writes.
local function has_all(uuid, version)
  local stored = redis.call('HMGET', said_key(uuid), 'version', 'fields')
  return stored[1] == version and tonumber(stored[2]) == redis.call('HLEN', said_key(uuid))
end

if dispatcher ~= '' then extend_lease(dispatcher, lease_ms) end
for i = 3, #ARGV, 9 do
  local uuid, worker, epoch, state, started_at_ms, pins, metadata, version, tenant = unpack(ARGV, i, i + 8)
  epoch = tonumber(epoch)
  local held = held_call(uuid)
  local held_epoch = held and held.epoch or 0
  local waits = held and held_epoch == epoch and held.dispatcher == ''
  local is_held = held and held_epoch >= epoch and held.dispatcher ~= dispatcher and not waits
  if is_held and dispatcher == '' and (held_epoch == epoch or held.worker == worker) then
    -- By the dispatcher that is gone, or by a dispatcher that is about to tell this worker.
  elseif is_held then
    -- Equal epochs of two dispatchers come from an outage, in which neither could see the other. The dispatcher that
    -- the record names keeps the call.
    superseded[#superseded + 1] = uuid
  elseif held_epoch <= epoch then
    local started = held and held.started_at_ms or (started_at_ms ~= '' and started_at_ms) or written(now_ms)
    if not held or held_epoch ~= epoch or held.dispatcher ~= dispatcher or held.worker ~= worker
        or held.state ~= state then
      redis.call('HSET', call_key(uuid), 'worker', worker, 'dispatcher', dispatcher, 'epoch', epoch, 'state', state,
        'started_at_ms', started, 'pins', math.max(held and tonumber(held.pins) or 0, tonumber(pins)),
        'metadata', metadata)
    end
    if tenant ~= '' and not (held and held.tenant == tenant) then
      redis.call('HSET', call_key(uuid), 'tenant', tenant)
    end
    if not held or (version ~= '' and not has_all(uuid, version)) then forgotten[#forgotten + 1] = uuid end
    hold_call(uuid, held, worker, dispatcher, lease_ms, started)
  end
  -- Otherwise this dispatcher has pinned the call since it composed this renewal: the record is newer.
  if dispatcher ~= '' then redis.call('HDEL', checks_key(dispatcher), uuid) end
end
settle()
return {superseded, forgotten}
