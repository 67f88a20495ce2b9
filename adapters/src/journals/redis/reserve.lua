#!lua
-- Takes or keeps the store for one process.
-- KEYS: where that is noted. ARGV: the process; what people call it; for how many milliseconds.
-- Answers {'', ''} when it is ours; otherwise what the other one is called, and until when it is his.
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local found = redis.call('HMGET', KEYS[1], 'process', 'whose', 'until')
if found[1] and found[1] ~= ARGV[1] and tonumber(found[3]) > now_ms then
  return {found[2], found[3]}
end
local last = string.format('%.0f', now_ms + tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], 'process', ARGV[1], 'whose', ARGV[2], 'until', last)
return {'', ''}
