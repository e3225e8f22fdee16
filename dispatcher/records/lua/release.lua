-- Ends the claims of a process that ends, or that makes room: any other process may deliver these records at once.
-- Keys: claims, record:{id} (schema: _prelude.lua). ARGV: process, ids.
for i = 2, #ARGV do
  if redis.call('HGET', record_key(ARGV[i]), 'owner') == ARGV[1] and has(CLAIMS, ARGV[i]) then
    redis.call('ZADD', CLAIMS, 0, ARGV[i])
  end
end
return 1
