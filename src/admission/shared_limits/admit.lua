-- Lets a call through, or says which limit it would break.
-- KEYS: the team's rates, slots and leases.
-- ARGV: replica, lease in ms, tokens, requests a minute, tokens a minute, concurrency (-1: no limit).
-- Levels are in sixty-thousandths of a unit, so that a refill of a millisecond is a whole number.
-- Returns 0 (admitted), 1 (concurrency), 2 (requests) or 3 (tokens); how long to wait in ms; what is left of
-- requests and how long until all are there, and the same of tokens.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local replica, n_tokens = ARGV[1], tonumber(ARGV[3])
local per_minute = {requests = tonumber(ARGV[4]), tokens = tonumber(ARGV[5])}
local concurrency = tonumber(ARGV[6])

if concurrency >= 0 then
  local in_flight = 0
  local slots = redis.call('HGETALL', KEYS[2])
  for f = 1, #slots, 2 do
    local lease = redis.call('HGET', KEYS[3], slots[f])
    if slots[f] == replica or (lease and tonumber(lease) > now) then
      in_flight = in_flight + tonumber(slots[f + 1])
    else
      redis.call('HDEL', KEYS[2], slots[f])
      redis.call('HDEL', KEYS[3], slots[f])
    end
  end
  if in_flight >= concurrency then return {1, 1000, 0, 0, 0, 0} end
end

local at = tonumber(redis.call('HGET', KEYS[1], 'at') or now)
local function level_of(what)
  local limit = per_minute[what]
  if limit < 0 then return 0 end
  local level = tonumber(redis.call('HGET', KEYS[1], what) or limit * 60000)
  local known = tonumber(redis.call('HGET', KEYS[1], what .. '_limit') or limit)
  level = level + (limit - known) * 60000
  return math.min(limit * 60000, level + limit * math.max(0, now - at))
end
local level = {requests = level_of('requests'), tokens = level_of('tokens')}
local takes = {requests = 1, tokens = n_tokens}
for code, what in ipairs({'requests', 'tokens'}) do
  local limit = per_minute[what]
  if limit >= 0 then
    local wanted = math.min(takes[what], limit) * 60000
    if level[what] < wanted then
      return {code + 1, math.ceil((wanted - level[what]) / math.max(limit, 1)), 0, 0, 0, 0}
    end
  end
end

local answer = {0, 0}
for _, what in ipairs({'requests', 'tokens'}) do
  local limit = per_minute[what]
  if limit >= 0 then
    local left = level[what] - takes[what] * 60000
    redis.call('HSET', KEYS[1], what, string.format('%.0f', left), what .. '_limit', limit)
    answer[#answer + 1] = math.floor(left / 60000)
    answer[#answer + 1] = math.ceil((limit * 60000 - left) / math.max(limit, 1))
  else
    answer[#answer + 1] = 0
    answer[#answer + 1] = 0
  end
end
redis.call('HSET', KEYS[1], 'at', string.format('%.0f', math.max(now, at)))
redis.call('PEXPIRE', KEYS[1], 3600000)
if concurrency >= 0 then
  redis.call('HINCRBY', KEYS[2], replica, 1)
  redis.call('HSET', KEYS[3], replica, string.format('%.0f', now + tonumber(ARGV[2])))
  redis.call('PEXPIRE', KEYS[2], 86400000)
  redis.call('PEXPIRE', KEYS[3], 86400000)
end
return answer
