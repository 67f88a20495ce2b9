#!lua
-- Carries out changes, one after the other: of each everything that it asks, or nothing at all.
-- KEYS: the store's own hash, then for each change every other hash that is looked at or changed.
-- ARGV: the store's id; the number of writes that the caller has seen; then for each change how many
--   hashes it has, and for each of these:
--   how many fields are looked at, how many are set, how many go, and whether the hash goes (1);
--   the fields that are looked at, and then what must stand there (nothing: the field must not be
--   there); the fields that are set, each before its value; the fields that go.
-- Answers {writes so far, {for each change how it ended}}: 0 it is done, 1 something stands otherwise,
--   -3 something else than a hash lies there. Or {writes, {-1}} if it is another store, {writes, {-2}}
--   if it has seen fewer writes than the caller: then nothing is done.
local MOST = 2000 -- values that one command takes from the stack
local DONE, CHANGED, OTHER_STORE, WENT_BACK, FOREIGN = 0, 1, -1, -2, -3
local ends = #ARGV

local store = redis.call('HMGET', KEYS[1], 'writes', 'id')
local writes = tonumber(store[1] or '0')
if (store[2] or '') ~= ARGV[1] then
  return {writes, {OTHER_STORE}}
end
if writes < tonumber(ARGV[2]) then
  return {writes, {WENT_BACK}}
end

-- Where the part of ARGV ends that is about the hash that begins there.
local function behind(at)
  return at + 4 + 2 * (tonumber(ARGV[at]) + tonumber(ARGV[at + 1])) + tonumber(ARGV[at + 2])
end

-- What one command answers, and whether there was a hash to ask it of. Any other error ends all.
local function ask(...)
  local answer = redis.pcall(...)
  local why = type(answer) == 'table' and answer.err
  if why and not string.find(why, '^-?WRONGTYPE') then
    error(answer)
  end
  return answer, not why
end

-- How the change would end for all that this hash says.
local function look(key, at)
  local checks = tonumber(ARGV[at])
  if checks == 0 then
    local _, is_hash = ask('HLEN', key)
    return is_hash and DONE or FOREIGN
  end
  for first = at + 4, at + 3 + checks, MOST do
    local last = math.min(first + MOST - 1, at + 3 + checks)
    local found, is_hash = ask('HMGET', key, unpack(ARGV, first, last))
    if not is_hash then
      return FOREIGN
    end
    for n = 0, last - first do
      if (found[n + 1] or '') ~= ARGV[first + checks + n] then
        return CHANGED
      end
    end
  end
  return DONE
end

local function change(key, at)
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
end

local codes, done = {}, 0
local key, at = 2, 3
while at <= ends do
  local last, first, how = key + tonumber(ARGV[at]) - 1, at + 1, DONE
  at = first
  -- Everything is looked at before anything is changed.
  for place = key, last do
    if how == DONE then
      how = look(KEYS[place], at)
    end
    at = behind(at)
  end
  if how == DONE then
    done, at = done + 1, first
    for place = key, last do
      change(KEYS[place], at)
      at = behind(at)
    end
  end
  codes[#codes + 1] = how
  key = last + 1
end
if done > 0 then
  writes = redis.call('HINCRBY', KEYS[1], 'writes', done)
end
return {writes, codes}
