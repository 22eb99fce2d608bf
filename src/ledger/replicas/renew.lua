-- A replica's sign of life.
-- KEYS: the team's leases. ARGV: holder, lease in ms.
-- Returns 1 (renewed), 0 (it had run out) or 2 (the holder is unknown: this store has lost its memory).
local mine = redis.call('HGET', KEYS[1], ARGV[1])
if not mine then return 2 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(mine) <= now then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + tonumber(ARGV[2])))
redis.call('PEXPIRE', KEYS[1], 86400000)
return 1
