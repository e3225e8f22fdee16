-- Reads calls that have a draft of their record, and no holder, the oldest first. Keys: orphans, drafts (schema:
-- _prelude.lua). ARGV: first, limit. Returns {uuid, time of the draft, ...}.
local first, limit = tonumber(ARGV[1]), tonumber(ARGV[2])

sweep()
settle()
local found = {}
for _, uuid in ipairs(redis.call('ZRANGE', ORPHANS, first, first + limit - 1)) do
  found[#found + 1] = uuid
  -- Without a draft there is no record to write.
  found[#found + 1] = redis.call('ZSCORE', DRAFTS, uuid) or '0'
end
return found
