-- Why the cache was not asked, or not for meaning, in a word; and the name of the cached answer that was given.
ALTER TABLE postings ADD COLUMN cache_why TEXT;
ALTER TABLE postings ADD COLUMN cache_entry TEXT;
