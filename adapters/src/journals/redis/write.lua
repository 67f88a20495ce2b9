#!lua
-- Changes everything that is asked, or nothing at all.
-- KEYS: the store's own hash, then every other hash that is looked at or changed.
-- ARGV: the store's id; the number of writes that the caller has seen; how many checks there are;
--   then triples of place in KEYS, field, value. First the checks (no value: the field must not be
--   there), then the changes (no value: the field goes; no field either: the hash goes).
-- Answers {0, writes so far}; or {what stands in the way, writes}: -1 it is another store, -2 it has
--   seen fewer writes than the caller, n the n-th check.
for _, key in ipairs(KEYS) do
  redis.call('HLEN', key) -- ends here, before anything is changed, where something else lies
end
local writes = tonumber(redis.call('HGET', KEYS[1], 'writes') or '0')
if (redis.call('HGET', KEYS[1], 'id') or '') ~= ARGV[1] then
  return {-1, writes}
end
if writes < tonumber(ARGV[2]) then
  return {-2, writes}
end
local changes = 4 + 3 * tonumber(ARGV[3])
for at = 4, changes - 1, 3 do
  local found = redis.call('HGET', KEYS[tonumber(ARGV[at])], ARGV[at + 1]) or ''
  if found ~= ARGV[at + 2] then
    return {(at - 1) / 3, writes}
  end
end
for at = changes, #ARGV, 3 do
  local key, field, value = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  if value ~= '' then
    redis.call('HSET', key, field, value)
  elseif field ~= '' then
    redis.call('HDEL', key, field)
  else
    redis.call('UNLINK', key)
  end
end
return {0, redis.call('HINCRBY', KEYS[1], 'writes', 1)}
