-- Ends a call: releases what it held and books what it cost, once, however often it is said.
-- KEYS: the call's record, the accounts.
-- ARGV: ceiling, cost, '1' where the database has the row already, the call, then for how many ms each account
-- is kept. An account without a balance keeps the cost beside the call until its balance is read from the database.
local record = redis.call('GET', KEYS[1])
if record == 'ended' then return 0 end
redis.call('SET', KEYS[1], 'ended', 'PX', 3600000)
for i = 2, #KEYS do
  if record and ARGV[1] ~= '0' then
    local field = 'h:' .. record
    if redis.call('HEXISTS', KEYS[i], field) == 1 and redis.call('HINCRBY', KEYS[i], field, '-' .. ARGV[1]) <= 0 then
      redis.call('HDEL', KEYS[i], field)
    end
  end
  if ARGV[2] ~= '0' then
    if redis.call('HEXISTS', KEYS[i], 'spent') == 1 then
      redis.call('HINCRBY', KEYS[i], 'spent', ARGV[2])
    elseif ARGV[3] == '0' then
      redis.call('HSET', KEYS[i], 'late:' .. ARGV[4], ARGV[2])
    end
    redis.call('PEXPIRE', KEYS[i], ARGV[3 + i])
  end
end
return 1
