-- Keeps the drafts of the records of pinned calls. Later drafts are refused, because no process would drop them.
-- Keys: call:{uuid}, draft:{uuid}, drafts (schema: _prelude.lua).
-- ARGV: seconds, then per call: uuid, draft.
local seconds = ARGV[1]
for i = 2, #ARGV, 2 do
  local uuid = ARGV[i]
  if redis.call('EXISTS', call_key(uuid)) == 1 then
    redis.call('SET', PREFIX .. 'draft:' .. uuid, ARGV[i + 1], 'EX', seconds)
    redis.call('ZADD', PREFIX .. 'drafts', now_ms, uuid)
  end
end
