-- Deletes an ended call. Keys: all of the call and its holder (schema: _prelude.lua).
-- ARGV: uuid, the highest epoch that its holder knows, worker (or '': the call was a dispatcher's). A worker takes out
-- only a call that waits at it. Returns 1, or 0 if the call is unknown, another's, or pinned at a higher epoch since.
local uuid, epoch, worker = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local held = held_call(uuid)
local is_ended = held ~= nil and held.epoch <= epoch
if is_ended and worker ~= '' then is_ended = held.dispatcher == '' and held.worker == worker end
if is_ended then
  remove_call(uuid, held.worker, held.dispatcher)
elseif not held and worker ~= '' then
  -- The record ended by itself: its slot did not.
  remove_call(uuid, worker, '')
end
settle()
return is_ended and 1 or 0
