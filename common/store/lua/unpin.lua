-- Deletes an ended call. Keys: all of the call and its holder (schema: _prelude.lua).
-- ARGV: uuid, the highest epoch that its dispatcher knows. Returns 1, or 0 if the call is unknown or was pinned
-- at a higher epoch since.
local uuid, epoch = ARGV[1], tonumber(ARGV[2])

local held = held_call(uuid)
local is_ended = held ~= nil and held.epoch <= epoch
if is_ended then remove_call(uuid, held.worker, held.dispatcher) end
settle()
return is_ended and 1 or 0
