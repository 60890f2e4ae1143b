-- A title has dozens of trigrams. New ones are gathered in a pending list and entered together, which makes an insert
-- about half as expensive. Every search reads that list, too, so it is kept short (the limit is in kB).
ALTER INDEX movies_title_trigrams SET (fastupdate = on, gin_pending_list_limit = 256);
