-- Sets a call's ceiling aside in all its accounts, or in none.
-- KEYS: the call's record, the team's leases, the accounts.
-- ARGV: holder, ceiling, lease in ms, '1' to hold whatever the limits say; then for each account its limit
-- (-1: none) and for how many ms it is kept.
-- Returns 1 (granted), 0 (not covered), 2 (no balance: the accounts' places), 3 (the lease ran out) or
-- 4 (the call has ended); after 1 and 0 whether the holder was unknown, and what each account has spent and held.
local holder, ceiling, is_forced = ARGV[1], tonumber(ARGV[2]), ARGV[4] == '1'
local record = redis.call('GET', KEYS[1])
if record == 'ended' then return {4} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mine = redis.call('HGET', KEYS[2], holder)
if mine and tonumber(mine) <= now then return {3} end

local live = {[holder] = true}
local function is_live(name)
  if live[name] == nil then
    local lease = redis.call('HGET', KEYS[2], name)
    live[name] = lease and tonumber(lease) > now or false
  end
  return live[name]
end

local adds = ceiling
if record == holder then adds = 0 end
local is_covered, missing, answer = true, {2}, {1, mine and 0 or 1}
for i = 3, #KEYS do
  local spent, held = nil, 0
  local fields = redis.call('HGETALL', KEYS[i])
  for f = 1, #fields, 2 do
    if fields[f] == 'spent' then
      spent = tonumber(fields[f + 1])
    elseif string.sub(fields[f], 1, 2) == 'h:' then
      if is_live(string.sub(fields[f], 3)) then
        held = held + tonumber(fields[f + 1])
      else
        redis.call('HDEL', KEYS[i], fields[f])
      end
    end
  end
  if not spent then missing[#missing + 1] = i - 3 end
  local limit = tonumber(ARGV[5 + (i - 3) * 2])
  if limit >= 0 and (spent or 0) + held + adds > limit then is_covered = false end
  answer[#answer + 1] = spent or 0
  answer[#answer + 1] = held
end
if not is_forced then
  if #missing > 1 then return missing end
  if not is_covered and record ~= holder then
    answer[1] = 0
    return answer
  end
end

redis.call('HSET', KEYS[2], holder, string.format('%.0f', now + tonumber(ARGV[3])))
redis.call('PEXPIRE', KEYS[2], 86400000)
if record ~= holder then
  redis.call('SET', KEYS[1], holder, 'PX', 86400000)
  for i = 3, #KEYS do
    redis.call('HINCRBY', KEYS[i], 'h:' .. holder, ARGV[2])
    redis.call('PEXPIRE', KEYS[i], ARGV[6 + (i - 3) * 2])
    answer[4 + (i - 3) * 2] = answer[4 + (i - 3) * 2] + ceiling
  end
end
return answer
