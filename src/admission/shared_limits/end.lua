-- A call has ended: its slot is free, and its tokens are what they were.
-- KEYS: the team's rates, slots and leases. ARGV: replica, tokens beyond those taken, tokens a minute (-1: no limit).
local limit = tonumber(ARGV[3])
local level = redis.call('HGET', KEYS[1], 'tokens')
if limit >= 0 and level then
  local left = math.min(limit * 60000, tonumber(level) - tonumber(ARGV[2]) * 60000)
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.0f', left))
end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 and redis.call('HINCRBY', KEYS[2], ARGV[1], -1) <= 0 then
  redis.call('HDEL', KEYS[2], ARGV[1])
end
return 1
