-- Whether this is the first to say something, among all replicas.
-- KEYS: what is said. ARGV: for how many ms it counts as said.
if redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1]) then return 1 end
return 0
