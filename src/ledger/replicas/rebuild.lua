-- Puts what the database has in the place of an account's balance. For a store that nobody spends from now.
-- KEYS: the account. ARGV: what was spent, for how many ms the account is kept.
redis.call('HSET', KEYS[1], 'spent', ARGV[1])
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 5) == 'late:' then redis.call('HDEL', KEYS[1], field) end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
