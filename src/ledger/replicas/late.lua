-- The calls that were settled in an account before it had a balance.
-- KEYS: the account.
local calls = {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 5) == 'late:' then calls[#calls + 1] = string.sub(field, 6) end
end
return calls
