-- The first 16 bytes of the SHA-256 of a message's body: a message that comes again under a known id with another body
-- is no repetition. Entries that are older than this column have none, and are taken for the same message.
ALTER TABLE processed_messages ADD COLUMN digest bytea;
