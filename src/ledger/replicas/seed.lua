-- Gives an account its balance from the database, unless it has one.
-- KEYS: the account. ARGV: what was spent, for how many ms the account is kept, then the calls that were settled
-- too early and are in that sum already; the others are added to it.
if redis.call('HEXISTS', KEYS[1], 'spent') == 1 then return 0 end
redis.call('HSET', KEYS[1], 'spent', ARGV[1])
local is_in_sum = {}
for i = 3, #ARGV do is_in_sum['late:' .. ARGV[i]] = true end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 5) == 'late:' then
    if not is_in_sum[field] then
      redis.call('HINCRBY', KEYS[1], 'spent', redis.call('HGET', KEYS[1], field))
    end
    redis.call('HDEL', KEYS[1], field)
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
