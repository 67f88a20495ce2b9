-- Publishes one event, once, in one indivisible step.
-- KEYS: stream, newest event of each pair, what was published last of each pair
-- ARGV: provider, revision, kind#rotation, JSON, events kept, seconds kept, then the entry's fields
local names = ARGV[3]
local seen = redis.call('HGET', KEYS[3], ARGV[1])
if seen then
  local space = string.find(seen, ' ', 1, true)
  local rev, kinds = string.sub(seen, 1, space - 1), string.sub(seen, space + 1)
  -- Revisions are compared as text, the longer one being larger: a Lua number would lose digits.
  if #rev > #ARGV[2] or (#rev == #ARGV[2] and rev > ARGV[2]) then
    return 0
  end
  if rev == ARGV[2] then
    if string.find(' ' .. kinds .. ' ', ' ' .. names .. ' ', 1, true) then
      return 0
    end
    names = kinds .. ' ' .. names
  end
end
redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[5], '*', unpack(ARGV, 7))
redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2] .. ' ' .. names)
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[6])
end
return 1
