-- The movies and the index that serves the search in their titles.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE movies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 255),
    description text NOT NULL DEFAULT '' CHECK (char_length(description) <= 10000)
);

-- Trigrams serve ILIKE '%text%'. A title has dozens, so new ones are gathered in a pending list and entered together,
-- which makes an insert about half as expensive. Every search reads that list, too; it is kept short (in kB) for that.
CREATE INDEX movies_title_trigrams ON movies USING gin (title gin_trgm_ops) WITH (gin_pending_list_limit = 256);
