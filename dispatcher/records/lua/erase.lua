-- Erases records. Keys: all (schema: _prelude.lua).
-- ARGV: selector, begin (1: note the erasure, for records that processes hold, or 0), ids to compare.
-- Returns the number of erased records.
local selector = ARGV[1]
if ARGV[2] == '1' then
  index(ERASURES, now_ms, selector, ERASED_MS)
  redis.call('ZREMRANGEBYRANK', ERASURES, 0, -MOST_ERASURES - 1)
end
local erased = 0
for i = 3, #ARGV do
  local selectors = redis.call('HGET', record_key(ARGV[i]), 'selectors')
  if selectors and string.find(' ' .. selectors .. ' ', ' ' .. selector .. ' ', 1, true) then
    forget(ARGV[i])
    mark_gone(ARGV[i], 'erased', ERASED_MS)
    erased = erased + 1
  end
end
return erased
