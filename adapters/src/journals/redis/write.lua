#!lua
-- Changes everything that is asked, or nothing at all.
-- KEYS: the store's own hash, then every other hash that is looked at or changed.
-- ARGV: the store's id; the number of writes that the caller has seen; then for each other hash:
--   how many fields are looked at, how many are set, how many go, and whether the hash goes (1);
--   the fields that are looked at, and then what must stand there (nothing: the field must not be
--   there); the fields that are set, each before its value; the fields that go.
-- Answers {0, writes so far}; or {what stands in the way, writes}: -1 it is another store, -2 it has
--   seen fewer writes than the caller, n the n-th hash is not as it must be.
local MOST = 2000 -- values that one command takes from the stack
local store = redis.call('HMGET', KEYS[1], 'writes', 'id')
local writes = tonumber(store[1] or '0')
if (store[2] or '') ~= ARGV[1] then
  return {-1, writes}
end
if writes < tonumber(ARGV[2]) then
  return {-2, writes}
end
-- First everything is looked at; where something else than a hash lies this ends here.
local at = 3
for place = 2, #KEYS do
  local key, checks = KEYS[place], tonumber(ARGV[at])
  local next = at + 4 + 2 * checks + 2 * tonumber(ARGV[at + 1]) + tonumber(ARGV[at + 2])
  if checks == 0 then
    redis.call('HLEN', key)
  end
  for first = at + 4, at + 3 + checks, MOST do
    local last = math.min(first + MOST - 1, at + 3 + checks)
    local found = redis.call('HMGET', key, unpack(ARGV, first, last))
    for n = 0, last - first do
      if (found[n + 1] or '') ~= ARGV[first + checks + n] then
        return {place - 1, writes}
      end
    end
  end
  at = next
end
at = 3
for place = 2, #KEYS do
  local key = KEYS[place]
  local sets = at + 4 + 2 * tonumber(ARGV[at])
  local gone = sets + 2 * tonumber(ARGV[at + 1])
  local next = gone + tonumber(ARGV[at + 2])
  for first = sets, gone - 1, MOST do
    redis.call('HSET', key, unpack(ARGV, first, math.min(first + MOST, gone) - 1))
  end
  for first = gone, next - 1, MOST do
    redis.call('HDEL', key, unpack(ARGV, first, math.min(first + MOST, next) - 1))
  end
  if ARGV[at + 3] == '1' then
    redis.call('UNLINK', key)
  end
  at = next
end
return {0, redis.call('HINCRBY', KEYS[1], 'writes', 1)}
