-- SQLite lays its sums by day out anew here. Postgres adds up by hashing and does not mind the order of a key,
-- so nothing changes.
SELECT 1;
