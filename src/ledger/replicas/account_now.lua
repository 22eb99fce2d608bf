-- How an account stands: what is spent (-1: no balance) and what is held, whoever holds it.
-- KEYS: the account, the team's leases.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local spent, held = -1, 0
local fields = redis.call('HGETALL', KEYS[1])
for f = 1, #fields, 2 do
  if fields[f] == 'spent' then
    spent = tonumber(fields[f + 1])
  elseif string.sub(fields[f], 1, 2) == 'h:' then
    local lease = redis.call('HGET', KEYS[2], string.sub(fields[f], 3))
    if lease and tonumber(lease) > now then held = held + tonumber(fields[f + 1]) end
  end
end
return {spent, held}
